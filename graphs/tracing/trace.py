"""The trace of one request: the tree of its spans, filled in while it runs."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from deployments.errors import DeploymentError
from deployments.span import Span, TraceContext, Value, new_id

MOST_SPANS = 500
"""Spans of one trace, beyond which further ones are counted alone: a long recording has many windows."""
MOST_EVENTS = 200
"""Events of one span that came from a model."""
REQUEST_ID = "sonograph.request_id"
"""Attribute of a root span."""
ERROR_TYPE = "error.type"
"""Attribute of a span that failed, by OpenTelemetry's conventions."""

_current: ContextVar[Span | None] = ContextVar("span", default=None)


class Trace:
    """One request's spans. Its ids are the client's where that sent a `traceparent`."""

    def __init__(
        self,
        name: str,
        client: TraceContext | None = None,
        origin: "Trace | None" = None,
        on_end: Callable[["Trace"], None] = lambda trace: None,
        words: bool = False,
        **attributes: Value,
    ) -> None:
        """`name`: the root span's, as HTTP's semantic conventions have it, such as `POST /graph`. `on_end` receives the ended trace.

        `origin`: the trace of the request that this work follows from, where nobody waits for it.
        `words`: the setting `tracing.message_content`.
        """
        self.client = client
        self.origin = origin
        self.id = client.trace_id if client else new_id(32)
        self.root = Span(name, client.span_id if client else "", kind="internal" if origin else "server", attributes=attributes)
        self.words = words
        self.spans = [self.root]
        self.dropped = 0
        """Spans beyond MOST_SPANS."""
        self.mirrors: list[Trace] = []
        """The traces of its mirrored calls that have ended."""
        self.sent = False
        """Whether it has been sent to a collector."""
        self.size = 0
        """Its spans and their events, once it has ended."""
        self._on_end = on_end

    @property
    def current(self) -> Span:
        """The span that runs in this task: the parent of the next one."""
        return _current.get() or self.root

    def context(self) -> tuple[str, ...]:
        """The `traceparent` for a call of another process, and its `tracestate` where the client sent one."""
        traceparent = str(TraceContext(self.id, self.current.id, True))
        return (traceparent, self.state) if self.state else (traceparent,)

    @property
    def state(self) -> str:
        """The client's `tracestate`."""
        return self.client.state if self.client else ""

    @property
    def traceresponse(self) -> str:
        """The trace's id, as the client sent it, and the root's, for the client; empty where it sent no context."""
        return str(TraceContext(self.id, self.root.id, self.client.sampled)) if self.client else ""

    @contextlib.contextmanager
    def span(self, name: str, kind: str = "internal", **attributes: Value) -> Iterator[Span]:
        """A span around a part of the work, the child of the one around it in this task, or in the task that has started it.

        Its error is the code of the exception that leaves it; `cancelled` where its task was cancelled.
        """
        span = Span(name, self.current.id, kind=kind, attributes=attributes)
        self.add([span])
        token = _current.set(span)
        try:
            yield span
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()
            _current.reset(token)

    @contextlib.contextmanager
    def mirror(self, name: str) -> Iterator["Trace"]:
        """The trace of a mirrored call, for whose end the request does not wait: it links to the request's, and is none of its spans.

        This task's spans belong to it meanwhile. The root's error is as any span's.
        """
        request_id = {REQUEST_ID: self.root.attributes.get(REQUEST_ID, "")}
        trace = Trace(name, None, self, self._on_end, self.words, **request_id)
        token = _current.set(trace.root)
        try:
            yield trace
        except BaseException as error:
            _fail(trace.root, error)
            raise
        finally:
            _current.reset(token)
            trace.close()

    def add(self, spans: list[Span]) -> None:
        """Add spans, such as those that came with a model's result."""
        taken = spans[: max(0, MOST_SPANS - len(self.spans))]
        self.dropped += len(spans) - len(taken)
        for span in taken:
            del span.events[MOST_EVENTS:]
        self.spans += taken

    def end(self, status: int, error: str | None = None) -> None:
        """End a request's trace. `status`: of HTTP. `error`: the problem's code."""
        self.root.attributes["http.response.status_code"] = status
        # By OpenTelemetry's conventions a client's error is none of the server's span.
        self.root.error = error if status >= 500 else None
        if error:
            self.root.attributes[ERROR_TYPE] = error
        self.close()

    def close(self) -> None:
        """End the root, and with it what still runs."""
        self.root.end()
        for span in self.spans:
            if not span.ended_ns:
                span.end()
        self.size = sum(1 + len(span.events) for span in self.spans)
        self._on_end(self)


def _fail(span: Span, error: BaseException) -> None:
    """Set the error: the code of a problem, `internal` for a defect, `cancelled` for the end of a task."""
    if isinstance(error, DeploymentError):
        span.error = error.code
    else:
        span.error = "internal" if isinstance(error, Exception) else "cancelled"
    span.attributes[ERROR_TYPE] = span.error


@contextlib.contextmanager
def span(trace: Trace | None, name: str, kind: str = "internal", **attributes: Value) -> Iterator[Span | None]:
    """A span of the trace; where the request has none, the work alone."""
    if trace is None:
        yield None
    else:
        with trace.span(name, kind, **attributes) as found:
            yield found
