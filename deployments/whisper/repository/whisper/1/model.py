"""AUDIO INT16 [samples], mono 16 kHz; LANGUAGE, TASK, PROMPT BYTES [1], UTF-8 (no language: detect); TEMPERATURE FP32 [1];
PROGRESS UINT8 [1]: 1 for each segment once it is decoded
->  TEXT, LANGUAGE BYTES [1]; SEGMENT_TEXT BYTES [n]; SEGMENT_FIGURES FP32 [n, 4]: start s, end s, avg_logprob, no_speech_prob;
COMPUTE_S FP32 [1]: of the passes that it took part in; BATCH_SIZE INT32 [1]: recordings like it in them. Before that each segment alone,
by its text and figures. Each tensor has Triton's batch dimension before these, which is 1 in a request.

Requests of one batch are heard in one pass of the model. No samples are answered at once with no text: the health probe.
The instance is a process on the CPU for Triton; the engine takes the GPU by its own setting.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.triton import stub
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.scheduler import Rounds
from deployments.whisper.sequence import Recording, Spoken
from deployments.whisper.transcription import Segment


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        given = stub.parameters(args)
        self._engine = WhisperEngine(
            given["model"],
            Path(given["weights"]),
            given["device"],
            int(given["threads"]),
            float(given["no_speech_threshold"]),
            float(given["logprob_threshold"]),
            given["padding"],
            given["precision"],
            given["long_recordings"],
            given["engine"],
        )
        self._rounds = Rounds(self._engine.listen, int(given["max_batch"]))

    def execute(self, requests: list[Any]) -> None:
        self._rounds.join([voice for request in requests if (voice := self._voice(request))])

    def finalize(self) -> None:
        self._rounds.close()

    def _voice(self, request: Any) -> Recording | None:
        """None where it has been answered: it cannot be heard, or there is nothing to hear."""
        reply = stub.Reply(request)
        try:
            reply.leave_if_cancelled()
            audio, progress = stub.array(request, "AUDIO")[0], bool(stub.array(request, "PROGRESS").flat[0])
            if not audio.size:
                reply.end(_said(Spoken("", "en", ()), 0.0, 1))
                return None
            return self._engine.voice(
                audio.copy(),
                stub.text(request, "LANGUAGE"),
                stub.text(request, "TASK"),
                stub.text(request, "PROMPT"),
                float(stub.array(request, "TEMPERATURE").flat[0]),
                tell=lambda segment: reply.tell(_segments([segment])) if progress else None,
                poll=reply.leave_if_cancelled,
                ended=lambda voice: reply.end(_outcome(voice)),
            )
        except Exception as error:
            reply.end(error)
            return None


def _outcome(voice: Recording) -> stub.Outputs | Exception:
    if voice.answer is None:
        return voice.error or RuntimeError("the recording has not been heard")
    return _said(voice.answer, voice.computed_s, voice.batch_size)


def _said(spoken: Spoken, compute_s: float, batch_size: int) -> dict[str, NDArray[Any]]:
    return {
        "TEXT": stub.texts([spoken.text])[None],
        "LANGUAGE": stub.texts([spoken.language])[None],
        "COMPUTE_S": np.array([[compute_s]], dtype=np.float32),
        "BATCH_SIZE": np.array([[batch_size]], dtype=np.int32),
    } | _segments(spoken.segments)


def _segments(segments: Sequence[Segment]) -> dict[str, NDArray[Any]]:
    figures = [(one.start_s, one.end_s, one.avg_logprob, one.no_speech_prob) for one in segments]
    return {
        "SEGMENT_TEXT": stub.texts([one.text for one in segments])[None],
        "SEGMENT_FIGURES": np.array(figures, dtype=np.float32).reshape(1, -1, 4),
    }
