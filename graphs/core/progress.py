"""Progress of a request: places in queues, retries and the models' own steps, each a server-sent event."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol


class Progress(Protocol):
    """A model's progress classes have these too, beside the model (`deployments/roles/`)."""

    EVENTS: ClassVar[tuple[str, ...]]
    """Types of the server-sent events that `events` yields."""

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type and data of each server-sent event."""


Emit = Callable[[Progress], None]


@dataclass(frozen=True)
class Queued:
    EVENTS: ClassVar[tuple[str, ...]] = ("queued",)

    stage: str
    position: int
    """In the ingress replica's queue, 1 for the next."""

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "queued", asdict(self)


@dataclass(frozen=True)
class Retry:
    """The stage starts again: its progress so far is void."""

    EVENTS: ClassVar[tuple[str, ...]] = ("retry",)

    stage: str

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "retry", asdict(self)


@dataclass(frozen=True)
class OfBranch:
    """Progress of one branch of a fan-out; its events carry the branch's name."""

    EVENTS: ClassVar[tuple[str, ...]] = ()

    branch: str
    progress: Progress

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for type, data in self.progress.events():
            yield type, {**data, "branch": self.branch}
