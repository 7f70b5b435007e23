"""Amounts that something asks for, and what it was seen to use: of a deployment, of a pod, or of a compared model's tasks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

BUSY_CPUS = 0.05
"""CPUs from which a sample counts as one under load: a replica without a request uses 0.01 to 0.03."""
WAITS = 0.1
"""Part of the CPUs that it wanted, above which it is said that it waited."""
LEAST_BUSY = 3
"""Samples under load that advice on CPUs needs."""

type Kind = Literal["deployment", "replica", "node", "task"]


@dataclass(frozen=True)
class Requested:
    """Amounts that one replica, or one task, asks for; None where it states none."""

    cpus: float | None = None
    memory_bytes: float | None = None
    gpus: float = 0


@dataclass(frozen=True)
class Spread:
    """Values of which half, and 95 in 100, are at most these, and the greatest."""

    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """The spread, by nearest rank; None of no values."""
        ordered = sorted(values)
        return cls(_rank(ordered, 0.5), _rank(ordered, 0.95), ordered[-1]) if ordered else None


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Sample:
    """Use of one replica, pod or task at one time; None is what cannot be seen from here."""

    cpus: float
    memory_bytes: float | None = None
    threads: tuple[float, ...] = ()
    """Threads of its busiest process that ran at once, at each of several looks."""
    gpu_percent: float | None = None
    gpu_bytes: float | None = None
    waited_cpus: float = 0.0
    """CPUs that its threads at work waited for; 0 too where that cannot be seen."""

    @property
    def is_busy(self) -> bool:
        return self.cpus >= BUSY_CPUS


@dataclass(frozen=True)
class Subject:
    """A line of the answer: what it asks for, and the samples of what it used."""

    name: str
    kind: Kind
    requested: Requested
    samples: Sequence[Sample]
    count: int = 1
    """Replicas that are wanted, or tasks that were measured."""
    deployment: str | None = None
    """Deployment that it is, or would be."""
    peak_bytes: float | None = None
    """Most memory since its start, where that is known."""
    threads_follow: bool = False
    """Whether its threads are as many as the CPUs that it asks for."""
    of_pod: bool = False
    """Whether the figures are a whole pod's, with Ray's own processes in it."""
    model: str = ""
    engine: str = ""
    missing: tuple[str, ...] = ()
    """Sentences on what cannot be seen."""
    parts: tuple["Subject", ...] = field(default=(), repr=False)
    """Its replicas, where it has several."""

    @property
    def busy(self) -> list[Sample]:
        """Samples under load. A task computes all the time."""
        return [one for one in self.samples if self.kind == "task" or one.is_busy]

    @property
    def is_idle(self) -> bool:
        return self.kind != "task" and bool(self.samples) and len(self.busy) < LEAST_BUSY

    @property
    def cpus(self) -> Spread | None:
        return Spread.of(one.cpus for one in self._shown)

    @property
    def waited_cpus(self) -> Spread | None:
        return Spread.of(one.waited_cpus for one in self._shown)

    @property
    def wanted_cpus(self) -> Spread | None:
        """CPUs that it used, with those that its threads waited for."""
        return Spread.of(one.cpus + one.waited_cpus for one in self._shown)

    @property
    def waits(self) -> float:
        """CPUs that it waited for at its p95, where they are more than a tenth of those that it wanted; else 0."""
        used, wanted = self.cpus, self.wanted_cpus
        waited = wanted.p95 - used.p95 if used and wanted else 0
        return waited if wanted and waited > max(BUSY_CPUS, WAITS * wanted.p95) else 0

    @property
    def threads(self) -> Spread | None:
        return Spread.of(threads for one in self._shown for threads in one.threads)

    @property
    def memory(self) -> Spread | None:
        """Of all samples, since an idle process keeps its memory; the greatest is that since the start."""
        found = Spread.of(one.memory_bytes for one in self.samples if one.memory_bytes is not None)
        if found is None or self.peak_bytes is None:
            return found
        return Spread(found.p50, found.p95, max(found.max, self.peak_bytes))

    @property
    def gpu_percent(self) -> Spread | None:
        return Spread.of(one.gpu_percent for one in self._shown if one.gpu_percent is not None)

    @property
    def gpu_bytes(self) -> Spread | None:
        return Spread.of(one.gpu_bytes for one in self.samples if one.gpu_bytes is not None)

    @property
    def _shown(self) -> Sequence[Sample]:
        """Samples under load, or all of an idle one."""
        return self.samples if self.is_idle else self.busy
