"""Whisper in CTranslate2, the engine of faster-whisper: it hears what the same voices ask for on the same walk, in int8 on a CPU.

CTranslate2 computes a window, or a batch of them, in one call that cannot be left: voices are polled before and after each.
What it draws by lot (temperature above 0) it does not draw alike again: its lots go on through the life of the process.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import whisper
from ctranslate2 import DataType, StorageView, get_supported_compute_types
from ctranslate2.models import Whisper
from numpy.typing import NDArray
from torch import Tensor
from whisper.tokenizer import get_tokenizer

from deployments.whisper import adaptive_padding
from deployments.whisper.backends import ct2_export
from deployments.whisper.logit_filters import MOST_INITIAL_S, suppressed
from deployments.whisper.sequence import Voice, take_part
from deployments.whisper.transcription import Attempt, Heard, Language, Traits

PRECISIONS = {"int8": "int8", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
AUTO = {"cpu": "int8", "cuda": "fp16"}
TOKEN_S = 0.02
"""Between two timestamps."""


class Listener:
    """A model, and how it hears what voices ask: `voices.Listener` in CTranslate2."""

    def __init__(self, model: whisper.Whisper | Path, device: str, precision: str, threads: int) -> None:
        """`model`: openai-whisper's, which is converted and of no use afterwards, or the folder of one in CTranslate2's format.

        Raises ValueError with a sentence for a precision that the device does not compute in.
        """
        computes = PRECISIONS[AUTO[device] if precision == "auto" else precision]
        if computes not in (possible := get_supported_compute_types(device)):
            others = ", ".join(name for name, theirs in PRECISIONS.items() if theirs in possible)
            raise ValueError(
                f"whisper.precision is {precision}, in which CTranslate2 does not compute on this {device}: choose one of {others}"
            )
        with tempfile.TemporaryDirectory(prefix="sonograph-") as folder:
            if not isinstance(model, Path):
                ct2_export.save(model, Path(folder), computes)
            source = str(model) if isinstance(model, Path) else folder
            self._model = Whisper(source, device, compute_type=computes, inter_threads=1, intra_threads=threads)
        if isinstance(model, Path):
            self.traits = Traits(self._model.n_mels, self._model.is_multilingual, self._model.num_languages)
        else:
            self.traits = Traits.of(model)
        tokenizer = get_tokenizer(self.traits.multilingual, num_languages=self.traits.languages, language="en", task="transcribe")
        self._never = list(suppressed(tokenizer))

    def listen(self, voices: Sequence[Voice]) -> None:
        """One pass: each voice is told what it asked for, and has ended or asks the next. Never raises for what one of them fails with."""
        take_part(voices, lambda: self._hear(voices))

    def _hear(self, voices: Sequence[Voice]) -> None:
        self._detect([voice for voice in voices if isinstance(voice.asks, Language) and self._encode(voice)])
        alike: dict[Any, list[Voice]] = {}
        for voice in voices:
            if isinstance(attempt := voice.asks, Attempt) and self._encode(voice):
                # CTranslate2 wants the beginning of the text at one place, and draws all rows' lots at one temperature.
                kind = attempt.begin, len(attempt.initial), attempt.temperature, attempt.window.sound.shape
                alike.setdefault(kind, []).append(voice)
        for some in alike.values():
            self._decode(some)

    def _encode(self, voice: Voice) -> bool:
        """Whether the voice is still there, and its window is encoded. Windows go one by one, so that each can be left."""
        assert voice.asks is not None
        window = voice.asks.window
        if voice.listens() and window.sound is None:
            try:
                window.sound = self._sound(window.mel)
            except Exception as error:
                voice.fail(error)
        return not voice.done

    def _sound(self, mel: Tensor) -> NDArray[np.float32]:
        """float32 [frames / 2, state], in memory that any batch can be made of."""
        features = StorageView.from_array(np.ascontiguousarray(mel.numpy()[None]))
        encoded: NDArray[np.float32] = np.array(self._model.encode(features, to_cpu=True).to(DataType.float32))[0]
        return encoded

    def _detect(self, voices: Sequence[Voice]) -> None:
        if voices := [voice for voice in voices if voice.listens()]:
            for voice, chances in zip(voices, self._model.detect_language(_together(voices)), strict=True):
                voice.tell(chances[0][0].strip("<|>"))

    def _decode(self, voices: Sequence[Voice]) -> None:
        """Of attempts that are alike."""
        rows = [(voice, asks) for voice in voices if voice.listens() and isinstance(asks := voice.asks, Attempt)]
        if not rows:
            return
        most, initial, temperature = max(one.most for _, one in rows), len(rows[0][1].initial), rows[0][1].temperature
        try:
            results = self._model.generate(
                _together([voice for voice, _ in rows]),
                [list(one.initial) for _, one in rows],
                beam_size=1,
                sampling_topk=0 if temperature else 1,
                sampling_temperature=temperature or 1.0,
                max_length=min(self.traits.context, most + max(most, initial)),  # it gives the text at most half of this
                suppress_tokens=self._never,
                max_initial_timestamp_index=round(MOST_INITIAL_S / TOKEN_S),
                return_scores=True,
                return_no_speech_prob=True,
            )
        except Exception as error:
            for voice, _ in rows:
                voice.fail(error)
            return
        for (voice, attempt), result in zip(rows, results, strict=True):
            if voice.listens():
                voice.tell(_heard(attempt, result))


def _together(voices: Sequence[Voice]) -> StorageView:
    """What they ask to be heard, as one batch."""
    return StorageView.from_array(np.stack([voice.asks.window.sound for voice in voices if voice.asks is not None]))


def _heard(attempt: Attempt, result: Any) -> Heard | None:
    said: list[int] = result.sequences_ids[0]
    avg_logprob = result.scores[0] * len(said) / (len(said) + 1)  # openai-whisper counts the end as well
    if attempt.strict and any(adaptive_padding.repeats(said[:end]) for end in range(len(said) + 1)):
        return None
    return Heard(said[: attempt.most], avg_logprob, result.no_speech_prob, attempt.temperature)
