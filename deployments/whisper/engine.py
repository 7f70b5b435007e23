"""Whisper without Triton or Ray, computed in torch or CTranslate2. Source of the model and its defaults: openai-whisper
(Radford et al. 2022).
"""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import whisper
from numpy.typing import NDArray
from safetensors import safe_open
from whisper.audio import N_SAMPLES
from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE

from deployments.errors import InvalidInput
from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript, text_of
from deployments.torch_runtime import dtype, resolve_device, set_threads, upload
from deployments.whisper.backends.torch import TorchBackend
from deployments.whisper.chunk_boundaries import chunk_spans
from deployments.whisper.chunked import ChunkedGroup, Emit, Windows
from deployments.whisper.sequence import Sequence, SequenceGroup
from deployments.whisper.transcription import (
    ModelDims,
    Thresholds,
    TranscriptionState,
    WindowRequest,
    decode_windows,
    initial_state,
)
from deployments.whisper.types import EngineConfig
from deployments.whisper.weights import WeightsUnavailable, install, published

TASKS = ("transcribe", "translate")
MAX_CHUNKS = 4
"""Most chunks of one recording in a step of `transcribe`."""


class Backend(Protocol):
    """A model in one of the libraries."""

    dims: ModelDims

    def run_step(self, sequences: list[Sequence]) -> None: ...


class WhisperEngine:
    def __init__(self, config: EngineConfig) -> None:
        set_threads(config.threads)
        self._config = config
        self._device = resolve_device(config.device)
        self._thresholds = Thresholds(config.no_speech_threshold, config.logprob_threshold)
        self._backend: Backend
        self._mel_device: str
        weights = Path(config.weights)
        if config.engine == "faster-whisper":
            from deployments.whisper.backends.ctranslate2 import CTranslate2Backend  # the other engine does not load it

            folder = Path(config.model)
            source = folder if (folder / "model.bin").is_file() else load(config.model, weights, "cpu")
            self._mel_device = "cpu"
            self._backend = CTranslate2Backend(source, self._device, config.precision, config.threads)
        else:
            self._model = load(config.model, weights, self._device)
            self._mel_device = self._device
            self._backend = TorchBackend(self._model, dtype(config.precision, self._device))
        self._dims = self._backend.dims

    def transcribe(
        self,
        request: TranscribeRequest,
        on_segment: Callable[[Segment], None] = lambda segment: None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> Transcript:
        """Transcribe one recording alone. The arguments are those of `prepare`. Raises the error that it ends with."""
        group = self.prepare(request, on_segment, check_cancelled)
        while not group.done:
            self._backend.run_step(group.sequences[:MAX_CHUNKS])
        if group.error is not None:
            raise group.error
        assert group.transcript is not None
        return group.transcript

    def prepare(
        self,
        request: TranscribeRequest,
        on_segment: Callable[[Segment], None] = lambda segment: None,
        check_cancelled: Callable[[], None] = lambda: None,
        on_done: Callable[[SequenceGroup], None] = lambda group: None,
    ) -> SequenceGroup:
        """Make a recording's sequences, for `run_step`.

        `on_segment` receives each segment once it is decoded. `check_cancelled` is called before each encoder block and each step
        of the decoder, or in CTranslate2 around each window; its exception ends this recording alone. `on_done` is called once the
        group has its transcript or its error.

        Raises InvalidInput for a language or task that the model does not have. In fp32 the same input gives the same text, whatever
        shares its batch: the fallback that samples (temperature above 0) starts from a fixed seed, except in CTranslate2. In a lower
        precision another batch size rounds otherwise, which now and then decides between two words.
        """
        language = self._language_code(request)
        initial = self._initial_state(request, language)
        if self._config.long_recordings == "chunked" and request.audio.size > N_SAMPLES:
            spans = chunk_spans(request.audio)
            if len(spans) > 1:
                return ChunkedGroup(spans, initial, self._decode_windows, self._device, on_segment, check_cancelled, on_done)
        transcription = self._transcription(request.audio, language, initial, on_segment)
        return Sequence(transcription, self._device, check_cancelled, on_done)

    def run_step(self, sequences: list[Sequence]) -> None:
        """Compute the next window of each sequence, in one batch."""
        self._backend.run_step(sequences)

    def _initial_state(self, request: TranscribeRequest, language: str) -> Generator[WindowRequest, object, TranscriptionState]:
        samples = upload(torch.from_numpy(np.array(request.audio)), self._mel_device).float() / 32768.0
        state = yield from initial_state(self._dims, samples, language, request.task, request.prompt, request.temperature)
        state.adaptive = self._config.padding == "adaptive"
        return state

    def _decode_windows(self, state: TranscriptionState, emit: Emit) -> Windows:
        return decode_windows(self._dims, state, self._thresholds, emit)

    def _transcription(
        self,
        audio: NDArray[np.int16],
        language: str,
        initial: Generator[WindowRequest, object, TranscriptionState],
        on_segment: Callable[[Segment], None],
    ) -> Generator[WindowRequest, object, Transcript]:
        if audio.size == 0:
            return Transcript("", language or "en", ())
        state = yield from initial
        segments: list[Segment] = []

        def emit(window: list[Segment]) -> None:
            for segment in window:
                segments.append(segment)
                on_segment(segment)

        yield from self._decode_windows(state, emit)
        return Transcript(text_of(segments), state.language, tuple(segments))

    def _language_code(self, request: TranscribeRequest) -> str:
        """Empty where it is to be detected."""
        language, task = request.language, request.task
        if task not in TASKS:
            raise InvalidInput(f"task must be one of {', '.join(TASKS)}")
        code: str = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if code and code not in LANGUAGES:
            raise InvalidInput("language must be a code that Whisper knows, such as en, de or ja, or its English name")
        if self._dims.multilingual:
            return code
        if code not in ("", "en") or task == "translate":
            wanted = "translation" if task == "translate" else f"language {code}"
            raise InvalidInput(
                f"{wanted} needs a multilingual model, and this service runs {self._config.model}, which is English-only: "
                "set whisper.model to a multilingual one, such as base"
            )
        return "en"


def load(model: str, weights: Path, device: str) -> whisper.Whisper:
    """Load a checkpoint: the name of a file `<weights>/<model>.safetensors`, an official name (downloaded into `weights`), or a path.

    A checkpoint as OpenAI publishes it is read by openai-whisper itself, which unpickles arrays only (`weights_only=True`).
    Raises ValueError with a sentence.
    """
    converted = weights / f"{model}.safetensors"
    path = converted if "/" not in model and converted.is_file() else Path(model)
    if path.suffix == ".safetensors" and path.is_file():
        return _load_arrays(path, device)
    if model in whisper.available_models():
        return _load_official(model, weights, device)
    if path.is_file():
        return whisper.load_model(str(path), device=device)
    known = ", ".join(whisper.available_models())
    raise ValueError(f"whisper.model is {model!r}, which is neither a checkpoint's path nor one of {known}")


def _load_official(model: str, weights: Path, device: str) -> whisper.Whisper:
    if path := published(model, weights):
        return whisper.load_model(str(path), device=device)
    try:
        return _load_arrays(install(model, weights), device)
    except (WeightsUnavailable, OSError) as error:
        raise ValueError(f"whisper.model is {model!r}, which is not in {weights} and cannot be downloaded: {error}") from error


def _load_arrays(path: Path, device: str) -> whisper.Whisper:
    with safe_open(str(path), framework="pt", device="cpu") as file:
        dims = json.loads(file.metadata()["dims"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors file is no dict)
    model = whisper.Whisper(whisper.ModelDimensions(**dims))
    model.load_state_dict(state)
    return model.eval().to(device)
