"""Speech to text: the request and the result of every model of this role, the same on both sides of Triton. Loads neither Ray nor torch."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deployments.compute_time import Answer

SAMPLE_RATE_HZ = 16_000
WINDOW_S = 30
"""Length of the audio that Whisper's encoder reads at once (Radford et al. 2022); a unit of the time that a transcription takes."""


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
    EVENTS: ClassVar[tuple[str, ...]] = ("transcript.delta",)

    start: float
    """Seconds from the recording's start."""
    end: float
    text: str
    """With the space before it, where its language has one: the texts of all segments are the transcript's."""
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities."""
    no_speech_prob: float

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events, by type and data; none for an empty text."""
        if self.text:
            yield "transcript.delta", {"text": self.text, "start": self.start, "end": self.end}


@dataclass(frozen=True)
class Transcript(Answer):
    EVENTS: ClassVar[tuple[str, ...]] = ("transcript",)

    text: str
    language: str
    """ISO 639-1 code, as openai-whisper names it."""
    segments: tuple[Segment, ...]

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events, by type and data."""
        segments = [asdict(segment) for segment in self.segments]
        yield "transcript", {"text": self.text, "language": self.language, "segments": segments}


def text_of(segments: Iterable[Segment]) -> str:
    """The transcript's text."""
    return "".join(segment.text for segment in segments).strip()


def mean_logprob(segments: Iterable[Segment]) -> float | None:
    """Mean of the segments' `avg_logprob`, by the lengths of their texts; None without any text."""
    lengths = [(len(one.text), one.avg_logprob) for one in segments]
    total = sum(length for length, _ in lengths)
    return sum(length * logprob for length, logprob in lengths) / total if total else None


def window_count(samples: int) -> int:
    """Windows of 30 s in a recording, at least 1."""
    return max(1, math.ceil(samples / (WINDOW_S * SAMPLE_RATE_HZ)))
