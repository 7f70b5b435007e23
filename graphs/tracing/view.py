"""A trace as JSON: the answer of `GET /graph/traces/{id}`."""

from typing import Any, Literal

from deployments.span import Span
from graphs.core.parameters import JsonAnswer
from graphs.tracing.trace import REQUEST_ID, Trace
from graphs.tracing.traces import Traces


class EventAnswer(JsonAnswer):
    name: str
    at_ms: float
    """Since the trace's begin."""
    attributes: dict[str, Any]


class SpanAnswer(JsonAnswer):
    id: str
    """16 hex digits."""
    parent_id: str
    """The span around it; the first span's is the client's, or empty."""
    name: str
    kind: Literal["server", "client", "internal"]
    start_ms: float
    """Since the trace's begin. Other machines' clocks may differ by some ms."""
    took_ms: float
    error: str | None
    """The problem's code, where it failed, or `cancelled`."""
    attributes: dict[str, Any]
    events: list[EventAnswer]


class TraceAnswer(JsonAnswer):
    trace_id: str
    """32 hex digits."""
    request_id: str
    at: float
    """Unix time of its begin."""
    took_ms: float
    status: int
    """Of HTTP; 0 for a mirrored call, which has none."""
    mirrors: list[str]
    """The traces of the request's mirrored calls that have ended, by their ids."""
    mirror_of: str | None
    """For a mirrored call: the id of its request's trace."""
    replica: str
    """The ingress replica that has kept it."""
    kept: int
    """Requests that this replica keeps; for `last` and `slowest` those of all replicas, of which it is one."""
    kept_since: float
    """Unix time since which these are all that ended."""
    dropped: int
    """Further spans, which were not kept."""
    spans: list[SpanAnswer]
    """In the order of their begin; the first is the whole request."""


def view(trace: Trace, traces: Traces, replica: str) -> dict[str, Any]:
    """The trace as TraceAnswer has it. `traces`: those of the ingress replica with the id `replica`."""
    root = trace.root
    return {
        "trace_id": trace.id,
        "request_id": root.attributes[REQUEST_ID],
        "at": root.started_ns / 1e9,
        "took_ms": round(root.duration_ms, 3),
        "status": root.attributes.get("http.response.status_code", 0),
        "mirrors": [mirror.id for mirror in trace.mirrors],
        "mirror_of": trace.origin.id if trace.origin else None,
        "replica": replica,
        "kept": traces.count,
        "kept_since": traces.since_ns / 1e9,
        "dropped": trace.dropped,
        "spans": [_span(span, root.started_ns) for span in sorted(trace.spans, key=lambda one: one.started_ns)],
    }


def _span(span: Span, zero_ns: int) -> dict[str, Any]:
    return {
        "id": span.id,
        "parent_id": span.parent_id,
        "name": span.name,
        "kind": span.kind,
        "start_ms": round((span.started_ns - zero_ns) / 1e6, 3),
        "took_ms": round(span.duration_ms, 3),
        "error": span.error,
        "attributes": span.attributes,
        "events": [
            {"name": one.name, "at_ms": round((one.at_ns - zero_ns) / 1e6, 3), "attributes": one.attributes}
            for one in span.events
        ],
    }
