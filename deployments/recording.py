"""The spans of one call in a replica: made in the task that runs it, and sent back with its result.

A model's author does nothing for it: the base of the Serve classes and the Triton server make the spans.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from deployments.errors import DeploymentError
from deployments.span import Span, TraceContext


@dataclass(frozen=True)
class Traced[Result]:
    """A result, and the spans of the call."""

    result: Result
    spans: list[Span]


@dataclass
class Recording:
    """The spans of the call that runs in this task."""

    trace_id: str
    root: Span
    spans: list[Span] = field(default_factory=list)

    def traceparent(self, span: Span) -> str:
        """The context for the process that holds the model."""
        return str(TraceContext(self.trace_id, span.id, True))


_recording: ContextVar[Recording | None] = ContextVar("recording", default=None)


def current() -> Recording | None:
    """The recording of this task's call; None where the caller has not asked for one."""
    return _recording.get()


@contextlib.contextmanager
def recorded(name: str, traceparent: str) -> Iterator[Recording]:
    """A recording around a call, whose first span is the replica's. `traceparent`: the caller's, well formed."""
    caller = TraceContext.parse(traceparent)
    if caller is None:
        raise DeploymentError(f"the traceparent of a call is malformed: {traceparent}")
    root = Span(name, caller.span_id, kind="server")
    recording = Recording(caller.trace_id, root, [root])
    before = _recording.get()
    _recording.set(recording)
    try:
        yield recording
    finally:
        root.end()
        _recording.set(before)  # no token: a generator may be closed in another context than the one that it ran in
