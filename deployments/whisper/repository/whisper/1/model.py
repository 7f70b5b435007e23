"""AUDIO INT16 [samples], mono 16 kHz; LANGUAGE, TASK, PROMPT BYTES [1], UTF-8 (no language: detect); TEMPERATURE FP32 [1];
PROGRESS UINT8 [1]: 1 for each segment once it is decoded
->  TEXT, LANGUAGE BYTES [1]; SEGMENT_TEXT BYTES [n]; SEGMENT_STATS FP32 [n, 4]: start s, end s, avg_logprob, no_speech_prob;
COMPUTE_S FP32 [1]: of the steps that it took part in; BATCH_SIZE INT32 [1]: requests in them. Before that each segment alone,
by its text and stats. Each tensor has Triton's batch dimension before these, which is 1 in a request.

Requests of one batch share a step of the model. No samples are answered at once with no text: the health probe.
The instance is a process on the CPU for Triton; the engine takes the GPU by its own setting.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript
from deployments.triton import stub
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.scheduler import Scheduler
from deployments.whisper.sequence import SequenceGroup
from deployments.whisper.types import EngineConfig


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = stub.config(args, EngineConfig)
        self._engine = WhisperEngine(config)
        self._scheduler = Scheduler(self._engine.run_step, config.max_batch)

    def execute(self, requests: list[Any]) -> None:
        self._scheduler.submit([group for request in requests if (group := self._group(request))])

    def finalize(self) -> None:
        self._scheduler.close()

    def _group(self, request: Any) -> SequenceGroup | None:
        """The request for the scheduler; None where it is already answered, since it is invalid, cancelled or empty."""
        responder = stub.Responder(request)
        try:
            responder.check_cancelled()
            audio, progress = stub.array(request, "AUDIO")[0], bool(stub.array(request, "PROGRESS").flat[0])
            if not audio.size:
                responder.finish(_outputs(Transcript("", "en", ()), 0.0, 1))
                return None
            return self._engine.prepare(
                TranscribeRequest(
                    audio.copy(),
                    stub.text(request, "LANGUAGE"),
                    stub.text(request, "TASK"),
                    stub.text(request, "PROMPT"),
                    float(stub.array(request, "TEMPERATURE").flat[0]),
                ),
                on_segment=lambda segment: responder.send(_segments([segment])) if progress else None,
                check_cancelled=responder.check_cancelled,
                on_done=lambda group: _finish(responder, group),
            )
        except Exception as error:
            responder.finish(error)
            return None


def _finish(responder: stub.Responder, group: SequenceGroup) -> None:
    if responder.recorder is not None and group.windows:
        responder.recorder.began(group.windows[0][0])
        for number, (started_ns, ended_ns, rows) in enumerate(group.windows, start=1):
            responder.recorder.add("window", started_ns, ended_ns, **{"sonograph.window": number, "sonograph.batch_size": rows})
    responder.finish(_outcome(group))


def _outcome(group: SequenceGroup) -> stub.Outputs | Exception:
    if group.transcript is None:
        return group.error or RuntimeError("the recording was not transcribed")
    return _outputs(group.transcript, group.computed_s, group.batch_size)


def _outputs(transcript: Transcript, compute_s: float, batch_size: int) -> dict[str, NDArray[Any]]:
    return {
        "TEXT": stub.texts([transcript.text])[None],
        "LANGUAGE": stub.texts([transcript.language])[None],
        "COMPUTE_S": np.array([[compute_s]], dtype=np.float32),
        "BATCH_SIZE": np.array([[batch_size]], dtype=np.int32),
    } | _segments(transcript.segments)


def _segments(segments: Iterable[Segment]) -> dict[str, NDArray[Any]]:
    segments = list(segments)
    stats = [(one.start, one.end, one.avg_logprob, one.no_speech_prob) for one in segments]
    return {
        "SEGMENT_TEXT": stub.texts([one.text for one in segments])[None],
        "SEGMENT_STATS": np.array(stats, dtype=np.float32).reshape(1, -1, 4),
    }
