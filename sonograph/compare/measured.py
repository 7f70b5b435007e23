"""One task of a comparison as it was measured: what `compare` keeps, `rightsize` reads, and the page draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """The outcome of one candidate over one input. Times are seconds since 1970 or of duration, memory is in bytes."""

    key: str
    """Hash of the input's content, the model and the settings: the name under which the outcome is kept."""
    role: str
    """`speech-to-text` or `text-to-image`."""
    candidate: str
    """Label of a model with its engine: `tiny.en, faster-whisper`."""
    model: str
    engine: str
    """Empty where the role has one engine."""
    settings: Mapping[str, Any]
    """Of the model's section, as far as they differ from its defaults."""
    input: str
    """Name of the recording, or the prompt."""
    length_s: float | None
    """Of the recording."""
    asked_cpus: float
    asked_bytes: int | None
    """Memory that the task stated, if any."""
    node: str
    pid: int
    cores: tuple[int, ...]
    """CPUs of the node on which the task was seen."""
    started_s: float
    ended_s: float
    load_s: float
    """Time to load the model in this process, within the two; 0 where it was loaded already."""
    wall_s: float
    """Of the computation alone."""
    cpu_s: float
    """CPU of the whole process within `wall_s`."""
    threads: int
    """Most threads that ran at once."""
    peak_bytes: int
    """Highest resident memory of the process within the task."""
    text: str | None
    mean_log_probability: float | None
    error: str | None = None
    """Sentence that names what failed, and where; the figures are those until then."""
    language: str = ""
    """ISO 639-1 code that the model found or was given; empty for a picture."""


@dataclass(frozen=True)
class Node:
    """A machine, or a pod, that tasks ran on. `Measured.node` is its name."""

    cpus: float
    """CPUs that Ray counts there."""
    memory_bytes: int | None
    """Memory that Ray counts there for tasks."""
