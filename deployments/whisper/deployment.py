"""Whisper's Serve class: a typed request to Triton's tensors, and these back to a transcript."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from deployments.base import ModelDeployment
from deployments.compute_time import ComputeTime
from deployments.errors import NoSpeech
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, Segment, TranscribeRequest, Transcript, window_count
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors
from deployments.whisper.settings import WhisperSettings
from deployments.whisper.types import EngineConfig


class Whisper(ModelDeployment[WhisperSettings, TranscribeRequest, Transcript]):
    def engine_config(self, threads: int) -> EngineConfig:
        return self.settings.engine_config(threads)

    def warm_up(self) -> Tensors:
        return _inputs(TranscribeRequest(np.zeros(SAMPLE_RATE_HZ, np.int16)))

    def probe(self) -> Tensors:
        return _inputs(TranscribeRequest(np.zeros(0, np.int16)))

    async def run(self, request: TranscribeRequest, time_left: TimeLeft, request_id: str = "") -> Transcript:
        """The transcript. Raises NoSpeech, InvalidInput, ModelUnavailable, DeadlineExceeded."""
        return self._transcript(request, await self.infer(_inputs(request), time_left, request_id))

    async def stream(
        self, request: TranscribeRequest, time_left: TimeLeft, request_id: str = ""
    ) -> AsyncGenerator[Segment | Transcript]:
        """Each segment as it is decoded, then the transcript. Raises what `run` raises."""
        async with aclosing(self.infer_stream(_inputs(request, progress=True), time_left, request_id)) as responses:
            async for outputs in responses:
                if "TEXT" in outputs:
                    yield self._transcript(request, outputs)
                else:
                    (segment,) = _segments(outputs)
                    yield segment

    def _transcript(self, request: TranscribeRequest, outputs: Tensors) -> Transcript:
        windows = window_count(request.audio.size)
        transcript = Transcript(
            outputs["TEXT"][0].decode(),
            outputs["LANGUAGE"][0].decode(),
            _segments(outputs),
            model=self.settings.model_name,
            compute_time=ComputeTime(
                0.0, float(outputs["COMPUTE_S"][0]) / windows, windows, int(outputs["BATCH_SIZE"][0]), self.cpu_s()
            ),
        )
        if not any(map(str.isalnum, transcript.text)) or all(map(self._silent, transcript.segments)):
            raise NoSpeech("Whisper found no words in the recording: speak closer to the microphone, or send another one")
        return transcript

    def _silent(self, segment: Segment) -> bool:
        return (
            segment.no_speech_prob > self.settings.no_speech_threshold and segment.avg_logprob < self.settings.logprob_threshold
        )


def _inputs(request: TranscribeRequest, progress: bool = False) -> Tensors:
    return {
        "AUDIO": request.audio,
        "LANGUAGE": np.array([request.language.encode()], dtype=np.object_),
        "TASK": np.array([request.task.encode()], dtype=np.object_),
        "PROMPT": np.array([request.prompt.encode()], dtype=np.object_),
        "TEMPERATURE": np.array([request.temperature], dtype=np.float32),
        "PROGRESS": np.array([progress], dtype=np.uint8),
    }


def _segments(outputs: Tensors) -> tuple[Segment, ...]:
    return tuple(
        Segment(round(start, 3), round(end, 3), text.decode(), avg_logprob, no_speech_prob)
        for text, (start, end, avg_logprob, no_speech_prob) in zip(
            outputs["SEGMENT_TEXT"], outputs["SEGMENT_STATS"].tolist(), strict=True
        )
    )
