"""The Whisper room's Ray class: one typed method over its Triton model, whole or as a stream."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application

from deployments.base import ModelDeployment
from deployments.compute_time import ComputeTime
from deployments.concurrency import declared_cpus, max_ongoing_requests
from deployments.errors import NoSpeech
from deployments.paths import model_name
from deployments.time_left import TimeLeft
from deployments.triton.server import InProcessTriton, Tensors, Triton
from deployments.whisper.settings import WhisperSettings

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class TranscribeOptions:
    language: str = ""
    """A code or an English name; empty to detect it."""
    task: str = "transcribe"
    """`transcribe`, or `translate` into English."""
    prompt: str = ""
    """Text that is taken to have been said before: names and spellings to expect."""
    temperature: float = 0.0
    """0 to 1; 0 raises it only where the text would be too repetitive or improbable."""


@dataclass(frozen=True)
class Segment:
    start: float
    """Seconds from the recording's start."""
    end: float
    text: str
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True)
class Transcript:
    text: str
    language: str
    segments: tuple[Segment, ...]
    model: str
    cost: ComputeTime


class Whisper(ModelDeployment):
    def __init__(self, settings: WhisperSettings, triton: Triton | None = None) -> None:
        self._settings = settings
        super().__init__(
            triton
            or InProcessTriton(
                Path(__file__).with_name("repository"),
                parameters={
                    "model": settings.model,
                    "weights": str(settings.weights),
                    "device": settings.device,
                    "threads": str(declared_cpus()),
                    "no_speech_threshold": str(settings.no_speech_threshold),
                    "logprob_threshold": str(settings.logprob_threshold),
                    "padding": settings.padding,
                    "precision": settings.precision,
                    "long_recordings": settings.long_recordings,
                    "max_batch": str(settings.max_batch),
                    "engine": settings.engine,
                },
                warm_up=_inputs(np.zeros(SAMPLE_RATE_HZ, np.int16), TranscribeOptions()),
                probe=_inputs(np.zeros(0, np.int16), TranscribeOptions()),
                stall_s=settings.stall_s,
                max_batch=settings.max_batch,
            )
        )

    async def transcribe(
        self, audio: NDArray[np.int16], options: TranscribeOptions, time_left: TimeLeft, request_id: str = ""
    ) -> Transcript:
        """`audio`: int16 [samples], mono 16 kHz. Raises NoSpeech, InvalidInput, ModelUnavailable, DeadlineExceeded."""
        outputs = await self.infer(_inputs(audio, options), time_left, request_id)
        return self._transcript(outputs, audio)

    async def transcribe_stream(
        self, audio: NDArray[np.int16], options: TranscribeOptions, time_left: TimeLeft, request_id: str = ""
    ) -> AsyncGenerator[Segment | Transcript]:
        """Each segment as it is decoded, then the transcript. Raises the same."""
        async with aclosing(self.stream(_inputs(audio, options, progress=True), time_left, request_id)) as answers:
            async for outputs in answers:
                if "TEXT" in outputs:
                    yield self._transcript(outputs, audio)
                else:
                    (segment,) = _segments(outputs)
                    yield segment

    def _transcript(self, outputs: Tensors, audio: NDArray[np.int16]) -> Transcript:
        units = windows(audio.size)
        transcript = Transcript(
            outputs["TEXT"][0].decode(),
            outputs["LANGUAGE"][0].decode(),
            _segments(outputs),
            model_name(self._settings.model),
            ComputeTime(0.0, float(outputs["COMPUTE_S"][0]) / units, units, int(outputs["BATCH_SIZE"][0])),
        )
        if not any(map(str.isalnum, transcript.text)) or all(map(self._silent, transcript.segments)):
            raise NoSpeech("Whisper heard no words in the recording: speak closer to the microphone, or send another one")
        return transcript

    def _silent(self, segment: Segment) -> bool:
        return (
            segment.no_speech_prob > self._settings.no_speech_threshold and segment.avg_logprob < self._settings.logprob_threshold
        )


def windows(samples: int) -> int:
    """Whisper's windows of 30 s in a recording."""
    return max(1, math.ceil(samples / (30 * SAMPLE_RATE_HZ)))


def _inputs(audio: NDArray[np.int16], options: TranscribeOptions, progress: bool = False) -> Tensors:
    return {
        "AUDIO": audio,
        "LANGUAGE": np.array([options.language.encode()], dtype=np.object_),
        "TASK": np.array([options.task.encode()], dtype=np.object_),
        "PROMPT": np.array([options.prompt.encode()], dtype=np.object_),
        "TEMPERATURE": np.array([options.temperature], dtype=np.float32),
        "PROGRESS": np.array([progress], dtype=np.uint8),
    }


def _segments(outputs: Tensors) -> tuple[Segment, ...]:
    return tuple(
        Segment(round(start, 3), round(end, 3), text.decode(), avg_logprob, no_speech_prob)
        for text, (start, end, avg_logprob, no_speech_prob) in zip(
            outputs["SEGMENT_TEXT"], outputs["SEGMENT_FIGURES"].tolist(), strict=True
        )
    )


def bind(settings: WhisperSettings) -> Application:
    """One CPU by default: the graph's config or a manifest gives more, or a GPU, and torch's threads follow."""
    return serve.deployment(
        name="whisper",
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=max_ongoing_requests(settings.max_batch),
        health_check_period_s=4,
        health_check_timeout_s=20,
        graceful_shutdown_timeout_s=30,
    )(Whisper).bind(settings)
