"""Whisper's engine with the real tiny.en, which `make setup` installs."""

import os
from typing import Any

import pytest

from deployments.paths import weights_dir
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.settings import WhisperSettings


def load(**settings: Any) -> WhisperEngine:
    if not (weights_dir("whisper") / "tiny.en.safetensors").is_file():
        missing = "Whisper's weights are not installed: make setup"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return WhisperEngine(WhisperSettings(**settings).engine_config())
