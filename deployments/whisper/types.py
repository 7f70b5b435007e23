"""Whisper's request, results and engine configuration: plain dataclasses, the same on both sides of Triton."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from deployments.compute_time import ComputeTime

SAMPLE_RATE_HZ = 16_000
WINDOW_S = 30
"""Length of the audio that Whisper's encoder reads at once."""

Engine = Literal["openai-whisper", "faster-whisper"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Padding = Literal["adaptive", "always"]
LongRecordings = Literal["sequential", "chunked"]


@dataclass(frozen=True)
class TranscribeRequest:
    audio: NDArray[np.int16]
    """[samples], mono 16 kHz."""
    language: str = ""
    """A code or an English name; empty to detect it."""
    task: str = "transcribe"
    """`transcribe`, or `translate` into English."""
    prompt: str = ""
    """Text that counts as the transcript before the recording: names and spellings to expect. Its last 223 tokens count."""
    temperature: float = 0.0
    """0 to 1; 0 raises it only while a window's text is too repetitive or improbable."""


@dataclass(frozen=True)
class Segment:
    EVENTS: ClassVar = ("transcript.delta",)

    start: float
    """Seconds from the recording's start."""
    end: float
    text: str
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities."""
    no_speech_prob: float

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events, by type and data; none for an empty text."""
        if self.text:
            yield "transcript.delta", {"text": self.text, "start": self.start, "end": self.end}


@dataclass(frozen=True)
class Transcript:
    EVENTS: ClassVar = ("transcript",)

    text: str
    language: str
    """ISO 639-1 code, as openai-whisper names it."""
    segments: tuple[Segment, ...]
    model: str = ""
    """Name of the checkpoint; set by the deployment, as `compute_time` is."""
    compute_time: ComputeTime = field(default_factory=ComputeTime)

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events, by type and data."""
        segments = [asdict(segment) for segment in self.segments]
        yield "transcript", {"text": self.text, "language": self.language, "segments": segments}


@dataclass(frozen=True)
class EngineConfig:
    """Options of `WhisperEngine`, which the deployment makes from its settings."""

    model: str
    """A checkpoint's name or path; with `faster-whisper` also a folder in CTranslate2's format."""
    weights: str
    """Folder of the checkpoints; an official one that is not in it is downloaded into it."""
    engine: Engine = "openai-whisper"
    device: Device = "auto"
    threads: int = 1
    """torch's, in this whole process, and CTranslate2's."""
    precision: Precision = "auto"
    """`auto` is fp16 on a GPU, and on a CPU fp32 or with `faster-whisper` int8."""
    max_batch: int = 8
    """Most rows of one step."""
    padding: Padding = "always"
    """`always` to 30 s, as openai-whisper does, or `adaptive`, see `adaptive_padding`."""
    long_recordings: LongRecordings = "sequential"
    """More than 30 s: window after window, as openai-whisper does, or `chunked` at pauses into rows of one batch."""
    no_speech_threshold: float = 0.6
    logprob_threshold: float = -1.0


def window_count(samples: int) -> int:
    """Windows of 30 s in a recording, at least 1."""
    return max(1, math.ceil(samples / (WINDOW_S * SAMPLE_RATE_HZ)))
