"""The spans of one call in a replica: made in the task that runs it, and sent back with its result.

A model's author does nothing for it: the base of the Serve classes and the Triton server make the spans.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from deployments.errors import DeploymentError
from deployments.span import Packed, Span, TraceContext, from_json, pack, unpack

QUEUE = "queue"
"""Span of a request's wait in Triton and in the model for those before it, Triton's copies included; then its `compute` begins."""
OUTPUT = "TRACE"
"""Output of every model, BYTES [1]: JSON of a traced request's spans in the model, in its final response."""


@dataclass(frozen=True)
class Traced[Result]:
    """A result, and the spans of the call."""

    result: Result
    spans: list[Span]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self.result, [pack(span) for span in self.spans])


def _unpacked[Result](result: Result, packed: list[Packed]) -> Traced[Result]:
    return Traced(result, [unpack(one) for one in packed])


@dataclass
class CallSpans:
    """The spans of the call that runs in this task."""

    caller: TraceContext
    root: Span
    spans: list[Span] = field(default_factory=list)


_current: ContextVar[CallSpans | None] = ContextVar("call_spans", default=None)


def current() -> CallSpans | None:
    """The spans of this task's call; None where the caller has not asked for one."""
    return _current.get()


@contextlib.contextmanager
def recorded(name: str, traceparent: str, tracestate: str = "") -> Iterator[CallSpans]:
    """Spans around a call, whose first one is the replica's. `traceparent`: the caller's, well formed."""
    caller = TraceContext.parse(traceparent, tracestate)
    if caller is None:
        raise DeploymentError(f"the traceparent of a call is malformed: {traceparent}")
    root = Span(name, caller.span_id, kind="server")
    call = CallSpans(caller, root, [root])
    before = _current.get()
    _current.set(call)
    try:
        yield call
    finally:
        root.end()
        _current.set(before)  # no token: a generator may be closed in another context than the one that it ran in


@dataclass
class ModelCall:
    """A call of the process that holds the model. Where nobody records, it does nothing."""

    own: CallSpans | None = None
    span: Span | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    """Parameters of the Triton request: `traceparent`, and `tracestate` where there is one."""

    def take(self, outputs: dict[str, Any]) -> None:
        """Take the model's spans out of a response."""
        if self.own is not None and self.span is not None and OUTPUT in outputs:
            content: Any = outputs.pop(OUTPUT)
            compute, *inner = from_json(bytes(content if isinstance(content, bytes) else content.flat[0]))
            queue = Span(QUEUE, self.span.id, started_ns=self.span.started_ns, ended_ns=compute.started_ns)
            self.own.spans += [queue, compute, *inner]


@contextlib.contextmanager
def model_call(name: str) -> Iterator[ModelCall]:
    """A span around a call of the process that holds the model."""
    own = current()
    if own is None:
        yield ModelCall()
        return
    span = Span(name, own.root.id, kind="client")
    own.spans.append(span)
    caller = own.caller
    parameters = {"traceparent": str(TraceContext(caller.trace_id, span.id, True))}
    try:
        yield ModelCall(own, span, parameters | ({"tracestate": caller.state} if caller.state else {}))
    finally:
        span.end()
