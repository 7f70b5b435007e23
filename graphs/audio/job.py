"""The exchange between the pool and a worker: one recording and what came of it. Plain Python and numpy, for both sides.

Each message is a JSON object in one packet. With a job come two files in memory: the recording, and one for the samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ

MESSAGE_BYTES = 64 * 1024
LONGEST_PADDING_S = 0.5
"""Sound beyond the longest duration that counts as a codec's padding (`graphs.audio.decode`)."""


@dataclass(frozen=True)
class DecodedAudio:
    """A decoded recording."""

    samples: NDArray[np.int16]
    """[samples], mono, 16 kHz."""
    warnings: tuple[str, ...] = ()
    """Sentences about what was left out."""


@dataclass(frozen=True)
class Job:
    max_duration_s: float
    cpu_s: float
    cpu_s_per_s: float
    """CPU for each second of sound, besides `cpu_s`."""


@dataclass(frozen=True)
class Reply:
    samples: int = 0
    """Their number, at the start of their file."""
    warnings: tuple[str, ...] = ()
    error: str = ""
    """Code of one of `graphs.audio.errors.REFUSALS`; any other is a defect."""
    message: str = ""
    last: bool = False
    """Whether the worker ends now, to give back the memory that the recording took."""


def capacity(max_duration_s: float) -> int:
    """Samples of the longest recording, with a codec's padding."""
    return int((max_duration_s + LONGEST_PADDING_S) * SAMPLE_RATE_HZ) + 1
