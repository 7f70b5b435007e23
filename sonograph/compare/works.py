"""Work of a task, by role: how a model is loaded, an input read, and a result computed, in the process of a Ray worker.

Nothing here loads a model's libraries before it is called: the command line, which makes these objects, has none of them.
"""

import asyncio
import contextlib
import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from deployments.diffusion.settings import DiffusionSettings
from deployments.errors import DeploymentError
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, TranscribeRequest, mean_logprob
from deployments.roles.text_to_image import GenerateRequest
from deployments.whisper.settings import WhisperSettings
from sonograph.compare.plan import Candidate, Checkpoint

MAX_DURATION_S = 3600.0
"""Longest recording: the most that the service can be set to."""


@dataclass(frozen=True)
class Computed:
    """A result of one input."""

    text: str | None = None
    mean_log_probability: float | None = None
    language: str = ""
    picture: bytes | None = None
    """A PNG."""


class Work(Protocol):
    """The model's part of a task. It is pickled, and has no state."""

    def load(self, threads: int) -> Any:
        """The engine. Raises an exception where the model does not load."""

    def read(self, content: bytes) -> tuple[Any, float | None]:
        """The input as the engine takes it, and a recording's length in seconds. Raises DeploymentError where it cannot be read."""

    def compute(self, engine: Any, given: Any) -> Computed: ...

    def checkpoint(self) -> Path | None:
        """The model's file or folder on this machine; None where it has to be downloaded first."""


@dataclass(frozen=True)
class Transcription:
    """A recording to text, by Whisper's engine."""

    settings: Mapping[str, Any]
    language: str = ""

    def load(self, threads: int) -> Any:
        settings = WhisperSettings.model_validate(self.settings)
        return _loaded("deployments.whisper.engine:WhisperEngine")(settings.engine_config(threads=threads))

    def read(self, content: bytes) -> tuple[Any, float | None]:
        """Decode as the service does: in a process of its own, with its bounds of CPU and memory."""
        loop, pool = _decoding()
        decoding = loop.create_task(pool.decode(content))
        try:
            samples = loop.run_until_complete(decoding).samples
        finally:
            if not decoding.done():  # the end of the task's time: the process that decodes is ended too
                decoding.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(decoding)
        return samples, samples.size / SAMPLE_RATE_HZ

    def compute(self, engine: Any, given: Any) -> Computed:
        found = engine.transcribe(TranscribeRequest(given, self.language))
        return Computed(found.text, mean_logprob(found.segments), found.language)

    def checkpoint(self) -> Path | None:
        settings = WhisperSettings.model_validate(self.settings)
        converted = settings.weights / f"{settings.model}.safetensors"
        if "/" not in settings.model and converted.is_file():
            return converted
        official = _loaded("deployments.whisper.weights:official_urls")().get(settings.model)  # loads torch
        place = settings.weights / official.rsplit("/", 1)[1] if official else Path(settings.model)
        return place if place.exists() else None


@dataclass(frozen=True)
class Drawing:
    """A prompt to a picture, by the diffusion engine, always from the same seed."""

    settings: Mapping[str, Any]

    def load(self, threads: int) -> Any:
        settings = DiffusionSettings.model_validate(self.settings)
        return _loaded("deployments.diffusion.engine:DiffusionEngine")(settings.engine_config(threads))

    def read(self, content: bytes) -> tuple[Any, float | None]:
        return content.decode(), None

    def compute(self, engine: Any, given: Any) -> Computed:
        request = DiffusionSettings.model_validate(self.settings).with_defaults(GenerateRequest(given))
        found = engine.generate(request, {})
        if found.flagged:
            raise DeploymentError("the safety checker flagged the picture")
        return Computed(picture=found.image.encoded)

    def checkpoint(self) -> Path | None:
        model = DiffusionSettings.model_validate(self.settings).model
        if Path(model).is_dir():
            return Path(model)
        hub = importlib.import_module("huggingface_hub")
        try:
            return Path(hub.snapshot_download(model, local_files_only=True))
        except (OSError, ValueError):
            return None


def work(candidate: Candidate, language: str) -> Work:
    """The work of a candidate. `language`: of the recordings; empty to detect it."""
    if candidate.role == "speech-to-text":
        return Transcription(candidate.settings, language)
    return Drawing(candidate.settings)


def described(work: Work, threads: int) -> Checkpoint:
    """The model's checkpoint, downloaded where it is missing. Raises an exception where there is none."""
    place = work.checkpoint()
    if place is None:
        work.load(threads)  # which downloads it
        place = work.checkpoint()
    if place is None:
        raise FileNotFoundError("its files are not where its settings say")
    digest, size_bytes = hashlib.sha256(), 0
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(place)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
            size_bytes += path.stat().st_size
    return Checkpoint(digest.hexdigest(), size_bytes)


@cache
def _decoding() -> tuple[asyncio.AbstractEventLoop, Any]:
    """The decode pool of this process, and the loop that it belongs to."""
    from graphs.audio.pool import DecodePool
    from graphs.audio.settings import AudioSettings

    return asyncio.new_event_loop(), DecodePool(AudioSettings(max_duration_s=MAX_DURATION_S))


def _loaded(name: str) -> Any:
    """An object of a model's library, as `module:name`: only a process that computes imports it."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
