"""Traces as OTLP's protobuf, built from our spans directly: the SDK's own spans and its encoder cost ten times as much."""

import importlib.metadata
import os
import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from deployments.span import Span, Value
from graphs.tracing.trace import Trace

KINDS = {
    "internal": trace_pb2.Span.SPAN_KIND_INTERNAL,
    "server": trace_pb2.Span.SPAN_KIND_SERVER,
    "client": trace_pb2.Span.SPAN_KIND_CLIENT,
}
FIELDS = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
HERE = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
REMOTE = HERE | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
"""The span's parent is the client's."""


def resource(service_name: str, more: Mapping[str, Value] = MappingProxyType({})) -> Resource:
    """This process, as the source of its traces. `more`: attributes of it; those that are known here stand above them."""
    found = Resource()
    instance = f"{socket.gethostname()}-{os.getpid()}"
    version = importlib.metadata.version("sonograph")
    known = {"service.name": service_name, "service.version": version, "service.instance.id": instance}
    _fill(found.attributes, {**more, **known})
    return found


def encode(traces: Iterable[Trace], source: Resource) -> ExportTraceServiceRequest:
    """One request of OTLP with all of these traces. `source`: of `resource`."""
    request = ExportTraceServiceRequest()
    of_source = request.resource_spans.add(resource=source)
    of_scope = of_source.scope_spans.add()
    of_scope.scope.name = "sonograph"
    of_scope.scope.version = importlib.metadata.version("sonograph")
    for trace in traces:
        trace_id = bytes.fromhex(trace.id)
        for span in trace.spans:
            _encode_span(of_scope.spans, trace_id, trace.state, span, span is trace.root)
        if trace.origin is not None:
            root = of_scope.spans[-len(trace.spans)]
            root.links.add(trace_id=bytes.fromhex(trace.origin.id), span_id=bytes.fromhex(trace.origin.root.id), flags=HERE)
    return request


def _encode_span(spans: Any, trace_id: bytes, state: str, span: Span, is_root: bool) -> None:
    encoded = spans.add(
        trace_id=trace_id,
        trace_state=state,
        span_id=bytes.fromhex(span.id),
        parent_span_id=bytes.fromhex(span.parent_id),
        name=span.name,
        kind=KINDS[span.kind],
        start_time_unix_nano=span.started_ns,
        end_time_unix_nano=span.ended_ns,
        flags=REMOTE if is_root and span.parent_id else HERE,
    )
    _fill(encoded.attributes, span.attributes)
    for event in span.events:
        _fill(encoded.events.add(name=event.name, time_unix_nano=event.at_ns).attributes, event.attributes)
    if span.error:
        encoded.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        encoded.status.message = span.error


def _fill(encoded: Any, attributes: Mapping[str, Value]) -> None:
    for key, value in attributes.items():
        entry = encoded.add(key=key).value
        try:
            setattr(entry, FIELDS[type(value)], value)
        except (KeyError, ValueError):  # of another type, an integer of more than 64 bits, half a surrogate pair
            entry.string_value = ascii(value)
