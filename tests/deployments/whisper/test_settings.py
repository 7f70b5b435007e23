"""Whisper's settings and description: light to import, checked, and the same options as the engine's."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.engine_config import from_parameters, to_parameters
from deployments.model_spec import Workload
from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript, window_count
from deployments.whisper.settings import WhisperSettings
from deployments.whisper.spec import SPEC
from deployments.whisper.types import EngineConfig


@pytest.mark.parametrize("module", ["settings", "spec", "types"])
def test_importing_it_loads_neither_ray_nor_a_model_library(module: str) -> None:
    heavy = ["ray", "torch", "whisper", "ctranslate2", "tritonserver", "safetensors"]
    program = (
        f"import json, sys, deployments.whisper.{module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def test_the_engines_defaults_are_those_of_the_settings() -> None:
    config = WhisperSettings().engine_config()
    assert config == EngineConfig(config.model, config.weights)


def test_the_engines_options_cross_the_seam_unchanged() -> None:
    config = WhisperSettings(engine="faster-whisper", precision="int8", padding="adaptive", max_batch=3).engine_config(threads=2)
    assert from_parameters(to_parameters(config), EngineConfig) == config


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("padding", "in doubt", "adaptive"),
        ("long_recordings", "one by one", "sequential"),
        ("long_recordings", "cut at silence", "chunked"),
    ],
)
def test_a_renamed_value_is_refused_with_its_new_name(name: str, old: str, new: str) -> None:
    with pytest.raises(ValidationError, match=f"'{old}' was renamed: set {name} to {new}"):
        WhisperSettings.model_validate({name: old})
    assert getattr(WhisperSettings.model_validate({name: new}), name) == new


@pytest.mark.parametrize("settings", [{"padding": "sometimes"}, {"long_recordings": 3}, {"max_batch": 65}, {"layers": 1}])
def test_other_values_and_names_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WhisperSettings.model_validate(settings)


def test_int8_needs_faster_whisper() -> None:
    with pytest.raises(ValidationError, match="set engine to it, or another precision"):
        WhisperSettings(precision="int8")
    assert WhisperSettings(precision="int8", engine="faster-whisper").precision == "int8"


@pytest.mark.parametrize(("seconds", "windows"), [(0, 1), (30, 1), (30.1, 2), (95, 4)])
def test_a_request_costs_its_windows(seconds: float, windows: int) -> None:
    audio = np.zeros(int(seconds * 16_000), np.int16)
    assert window_count(audio.size) == windows
    workload = SPEC.workload(TranscribeRequest(audio, task="translate"), WhisperSettings())
    assert workload == Workload(("translate", int(seconds // 10)), windows)


def test_the_events_of_whisper_are_those_of_segments_and_transcript() -> None:
    segment = Segment(0.5, 1.0, "a cat", -0.25, 0.125)
    assert list(segment.events()) == [("transcript.delta", {"text": "a cat", "start": 0.5, "end": 1.0})]
    assert list(Segment(0.0, 0.0, "", -0.25, 0.125).events()) == []
    ((name, data),) = Transcript("a cat", "en", (segment,), model="tiny.en").events()
    assert (name, list(data)) == ("transcript", ["text", "language", "segments"])
    assert list(data["segments"][0]) == ["start", "end", "text", "avg_logprob", "no_speech_prob"]
    assert SPEC.events == ("transcript.delta", "transcript")
