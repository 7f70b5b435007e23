"""AUDIO INT16 [samples], mono 16 kHz; LANGUAGE, TASK, PROMPT BYTES [1], UTF-8 (no language: detect); TEMPERATURE FP32 [1];
PROGRESS UINT8 [1]: 1 for each segment once it is decoded
->  TEXT, LANGUAGE BYTES [1]; SEGMENT_TEXT BYTES [n]; SEGMENT_FIGURES FP32 [n, 4]: start s, end s, avg_logprob, no_speech_prob;
COMPUTE_S FP32 [1]. Before that each segment alone, by its text and figures.

No samples are answered at once with no text: the health probe. The instance is a process on the CPU for Triton;
the engine takes the GPU by its own setting.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments import pb
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.windows import Segment


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        given = pb.parameters(args)
        self._engine = WhisperEngine(
            given["model"],
            Path(given["weights"]),
            given["device"],
            int(given["threads"]),
            float(given["no_speech_threshold"]),
            float(given["logprob_threshold"]),
        )

    def execute(self, requests: list[Any]) -> None:
        pb.answer(requests, self._transcribe)

    def _transcribe(self, request: Any, tell: pb.Tell) -> pb.Outputs:
        pb.leave_if_cancelled(request)
        started_s = time.perf_counter()
        progress = bool(pb.array(request, "PROGRESS")[0])
        spoken = self._engine.transcribe(
            pb.array(request, "AUDIO"),
            pb.text(request, "LANGUAGE"),
            pb.text(request, "TASK"),
            pb.text(request, "PROMPT"),
            float(pb.array(request, "TEMPERATURE")[0]),
            tell=lambda segment: tell(_segments([segment])) if progress else None,
            before_pass=lambda: pb.leave_if_cancelled(request),
        )
        compute_s = np.array([time.perf_counter() - started_s], dtype=np.float32)
        said = {"TEXT": pb.texts([spoken.text]), "LANGUAGE": pb.texts([spoken.language]), "COMPUTE_S": compute_s}
        return said | _segments(spoken.segments)


def _segments(segments: Sequence[Segment]) -> dict[str, NDArray[Any]]:
    figures = [(one.start_s, one.end_s, one.avg_logprob, one.no_speech_prob) for one in segments]
    return {
        "SEGMENT_TEXT": pb.texts([one.text for one in segments]),
        "SEGMENT_FIGURES": np.array(figures, dtype=np.float32).reshape(-1, 4),
    }
