"""AUDIO INT16 [samples], mono 16 kHz; LANGUAGE, TASK BYTES [1], UTF-8 (LANGUAGE empty: detect)
->  TEXT, LANGUAGE BYTES [1]; SEGMENT_TEXT BYTES [n]; SEGMENT_FIGURES FP32 [n, 4]: start s, end s, avg_logprob, no_speech_prob.

No samples are answered at once with no text: the health probe. The instance is a process on the CPU for Triton;
the engine takes the GPU by its own setting.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments import pb
from deployments.whisper.engine import WhisperEngine


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

    def execute(self, requests: list[Any]) -> list[Any]:
        return pb.answer(requests, self._transcribe)

    def _transcribe(self, request: Any) -> dict[str, NDArray[Any]]:
        spoken = self._engine.transcribe(pb.array(request, "AUDIO"), pb.text(request, "LANGUAGE"), pb.text(request, "TASK"))
        figures = [(one.start_s, one.end_s, one.avg_logprob, one.no_speech_prob) for one in spoken.segments]
        return {
            "TEXT": pb.texts([spoken.text]),
            "LANGUAGE": pb.texts([spoken.language]),
            "SEGMENT_TEXT": pb.texts([one.text for one in spoken.segments]),
            "SEGMENT_FIGURES": np.array(figures, dtype=np.float32).reshape(-1, 4),
        }
