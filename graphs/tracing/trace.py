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

_current: ContextVar[Span | None] = ContextVar("span", default=None)


class Trace:
    """One request's spans. Its ids are the client's where that sent a `traceparent`."""

    def __init__(
        self,
        name: str,
        client: TraceContext | None = None,
        origin: "Trace | None" = None,
        on_end: Callable[["Trace"], None] = lambda trace: None,
        **attributes: Value,
    ) -> None:
        """`name`: the root span's, as HTTP's semantic conventions have it, such as `POST /graph`. `on_end` receives the ended trace.

        `origin`: the trace of the request that this work follows from, where nobody waits for it.
        """
        self.client = client
        self.origin = origin
        self.id = client.trace_id if client else new_id(32)
        self.root = Span(name, client.span_id if client else "", kind="internal" if origin else "server", attributes=attributes)
        self.spans = [self.root]
        self.dropped = 0
        """Spans beyond MOST_SPANS."""
        self.mirrors: list[Trace] = []
        """The traces of its mirrored calls that have ended."""
        self.sent = False
        """Whether it has been sent to a collector."""
        self._on_end = on_end

    @property
    def current(self) -> Span:
        """The span that runs in this task: the parent of the next one."""
        return _current.get() or self.root

    def traceparent(self) -> str:
        """The context for a call of another process."""
        return str(TraceContext(self.id, self.current.id, True))

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
            span.error = _code(error)
            raise
        finally:
            span.end()
            _current.reset(token)

    @contextlib.contextmanager
    def mirror(self, name: str) -> Iterator["Trace"]:
        """The trace of a mirrored call, for whose end the request does not wait: it links to the request's, and is none of its spans.

        This task's spans belong to it meanwhile. The root's error is as any span's.
        """
        trace = Trace(name, None, self, self._on_end, **{REQUEST_ID: self.root.attributes.get(REQUEST_ID, "")})
        token = _current.set(trace.root)
        try:
            yield trace
        except BaseException as error:
            trace.root.error = _code(error)
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
            self.root.attributes["error.type"] = error
        self.close()

    def close(self) -> None:
        """End the root, and with it what still runs."""
        self.root.end()
        for span in self.spans:
            if not span.ended_ns:
                span.end()
        self._on_end(self)


def _code(error: BaseException) -> str:
    """The code of a problem, `internal` for a defect, `cancelled` for the end of a task."""
    if isinstance(error, DeploymentError):
        return error.code
    return "internal" if isinstance(error, Exception) else "cancelled"


@contextlib.contextmanager
def span(trace: Trace | None, name: str, kind: str = "internal", **attributes: Value) -> Iterator[Span | None]:
    """A span of the trace; where the request has none, the work alone."""
    if trace is None:
        yield None
    else:
        with trace.span(name, kind, **attributes) as found:
            yield found
