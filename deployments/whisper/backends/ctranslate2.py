"""Whisper in CTranslate2, the library of faster-whisper, as a backend: the same sequences and windows, in int8 on a CPU.

CTranslate2 computes a window, or a batch of them, in one call that cannot be cancelled: cancellation is checked before and after each.
Sampling (temperature above 0) is not repeatable: its random numbers continue through the life of the process.
"""

import os
import tempfile
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
from deployments.whisper.logit_filters import MAX_INITIAL_TIMESTAMP_S, suppressed_tokens
from deployments.whisper.sequence import Sequence, run_step
from deployments.whisper.transcription import DecodeRequest, DecodingResult, DetectLanguage, ModelDims

COMPUTE_TYPES = {"int8": "int8", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""CTranslate2's names of the settings' precisions."""
AUTO = {"cpu": "int8", "cuda": "fp16"}
TOKEN_S = 0.02
"""Between two timestamps."""
CPU_INFO = Path("/proc/cpuinfo")


class CTranslate2Backend:
    def __init__(self, model: whisper.Whisper | Path, device: str, precision: str, threads: int) -> None:
        """`model`: openai-whisper's, which is converted and unusable afterwards, or the folder of one in CTranslate2's format.

        Raises ValueError with a sentence for a precision that the device does not compute in.
        """
        limit_onednn()
        compute_type = COMPUTE_TYPES[AUTO[device] if precision == "auto" else precision]
        if compute_type not in (supported := get_supported_compute_types(device)):
            others = ", ".join(name for name, theirs in COMPUTE_TYPES.items() if theirs in supported)
            raise ValueError(
                f"whisper.precision is {precision}, in which CTranslate2 does not compute on this {device}: choose one of {others}"
            )
        with tempfile.TemporaryDirectory(prefix="sonograph-") as folder:
            if not isinstance(model, Path):
                ct2_export.save(model, Path(folder), compute_type)
            source = str(model) if isinstance(model, Path) else folder
            self._model = Whisper(source, device, compute_type=compute_type, inter_threads=1, intra_threads=threads)
        if isinstance(model, Path):
            self.dims = ModelDims(self._model.n_mels, self._model.is_multilingual, self._model.num_languages)
        else:
            self.dims = ModelDims.of(model)
        tokenizer = get_tokenizer(self.dims.multilingual, num_languages=self.dims.languages, language="en", task="transcribe")
        self._suppressed = list(suppressed_tokens(tokenizer))

    def run_step(self, sequences: list[Sequence]) -> None:
        """Serve each sequence's pending request, after which it has ended or made its next one. Never raises for one's failure."""
        run_step(sequences, lambda: self._compute(sequences))

    def _compute(self, sequences: list[Sequence]) -> None:
        self._detect([one for one in sequences if isinstance(one.request, DetectLanguage) and self._encode(one)])
        batches: dict[Any, list[Sequence]] = {}
        for sequence in sequences:
            if isinstance(request := sequence.request, DecodeRequest) and self._encode(sequence):
                # CTranslate2 wants the beginning of the text at one place, and samples all rows at one temperature.
                key = request.sot, len(request.initial), request.temperature, request.window.encoded.shape
                batches.setdefault(key, []).append(sequence)
        for batch in batches.values():
            self._decode(batch)

    def _encode(self, sequence: Sequence) -> bool:
        """Encode the pending window; return whether the sequence goes on. Windows go one by one, so that each can be cancelled."""
        assert sequence.request is not None
        window = sequence.request.window
        if sequence.check_active() and window.encoded is None:
            try:
                window.encoded = self._encoded(window.mel)
            except Exception as error:
                sequence.fail(error)
        return not sequence.done

    def _encoded(self, mel: Tensor) -> NDArray[np.float32]:
        """float32 [frames / 2, state], in memory from which any batch can be made."""
        features = StorageView.from_array(np.ascontiguousarray(mel.numpy()[None]))
        encoded: NDArray[np.float32] = np.array(self._model.encode(features, to_cpu=True).to(DataType.float32))[0]
        return encoded

    def _detect(self, sequences: list[Sequence]) -> None:
        if sequences := [sequence for sequence in sequences if sequence.check_active()]:
            for sequence, languages in zip(sequences, self._model.detect_language(_batch(sequences)), strict=True):
                sequence.resume(languages[0][0].strip("<|>"))

    def _decode(self, sequences: list[Sequence]) -> None:
        """Requests of one kind, see `_compute`."""
        rows = [(one, request) for one in sequences if one.check_active() and isinstance(request := one.request, DecodeRequest)]
        if not rows:
            return
        _, first = rows[0]
        max_tokens = max(request.max_tokens for _, request in rows)
        try:
            results = self._model.generate(
                _batch([sequence for sequence, _ in rows]),
                [list(request.initial) for _, request in rows],
                beam_size=1,
                sampling_topk=0 if first.temperature else 1,
                sampling_temperature=first.temperature or 1.0,
                # CTranslate2 gives the text half of this at most.
                max_length=min(self.dims.text_context, max_tokens + max(max_tokens, len(first.initial))),
                suppress_tokens=self._suppressed,
                max_initial_timestamp_index=round(MAX_INITIAL_TIMESTAMP_S / TOKEN_S),
                return_scores=True,
                return_no_speech_prob=True,
            )
        except Exception as error:
            for sequence, _ in rows:
                sequence.fail(error)
            return
        for (sequence, request), result in zip(rows, results, strict=True):
            if sequence.check_active():
                sequence.resume(_result(request, result))


def limit_onednn() -> None:
    """Keep oneDNN to AVX2, where the operator has not chosen. It reads its variable at its first use.

    It multiplies CTranslate2's matrices, but on CPUs of Intel, where MKL does. A precaution: a run in int8 with AVX-512 had nearly every
    word wrong, for a reason that was not found, and none with AVX2 had.
    """
    if "GenuineIntel" not in CPU_INFO.read_text():
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")


def _batch(sequences: list[Sequence]) -> StorageView:
    """The encoded windows of the pending requests."""
    return StorageView.from_array(np.stack([one.request.window.encoded for one in sequences if one.request is not None]))


def _result(request: DecodeRequest, result: Any) -> DecodingResult | None:
    tokens: list[int] = result.sequences_ids[0]
    avg_logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)  # openai-whisper counts the end as well
    if request.stop_repeats and any(adaptive_padding.is_repeating(tokens[:end]) for end in range(len(tokens) + 1)):
        return None
    return DecodingResult(tokens[: request.max_tokens], avg_logprob, result.no_speech_prob, request.temperature)
