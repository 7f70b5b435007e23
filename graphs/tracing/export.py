"""Traces to an OpenTelemetry collector, by the SDK's batch processor: a bounded queue, and a thread that sends it.

The SDK is imported where a collector is set, so that a service without one pays nothing for it.
"""

import importlib.metadata
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deployments.span import Span
from graphs.tracing import otlp
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

TIMEOUT_S = 10.0
"""Longest time of one export; what a collector does not take in it is dropped, and the SDK logs that."""


def sender(settings: TracingSettings) -> Callable[[Trace], None] | None:
    """A function that queues a trace for the settings' collector and returns at once; None where they name none.

    Raises ValueError where the file of headers cannot be used.
    """
    if not settings.endpoint:
        return None
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processor = BatchSpanProcessor(_exporter(settings), schedule_delay_millis=1000, export_timeout_millis=TIMEOUT_S * 1000)
    converted = _converter(settings)

    def send(trace: Trace) -> None:
        for span in trace.spans:
            processor.on_end(converted(trace, span))

    return send


def _exporter(settings: TracingSettings) -> "SpanExporter":
    more = otlp.read_headers(settings.headers_file) if settings.headers_file else {}
    sent = {name.lower(): value for name, value in {**settings.headers, **more}.items()} or None  # gRPC knows lower case alone
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        plain = settings.endpoint.startswith("http://")
        return Grpc(endpoint=settings.endpoint, insecure=plain, headers=sent, timeout=TIMEOUT_S)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{settings.endpoint}/v1/traces", headers=sent, timeout=TIMEOUT_S)


def _converter(settings: TracingSettings) -> Callable[[Trace, Span], Any]:
    """A function from our span to the SDK's. One resource and one scope stand for all of them."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    version = importlib.metadata.version("sonograph")
    instance = f"{socket.gethostname()}-{os.getpid()}"
    resource = Resource({"service.name": settings.service_name, "service.version": version, "service.instance.id": instance})
    scope = InstrumentationScope("sonograph", version)
    kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
    flags = TraceFlags(TraceFlags.SAMPLED)

    def context(trace: Trace, id: str, is_remote: bool) -> SpanContext:
        return SpanContext(int(trace.id, 16), int(id, 16), is_remote, flags)

    def converted(trace: Trace, span: Span) -> ReadableSpan:
        is_root = span is trace.root
        return ReadableSpan(
            span.name,
            context(trace, span.id, False),
            context(trace, span.parent_id, is_root) if span.parent_id else None,
            resource,
            span.attributes,
            [Event(one.name, one.attributes, one.at_ns) for one in span.events],
            [Link(context(trace.origin, trace.origin.root.id, False))] if is_root and trace.origin else (),
            kinds[span.kind],
            instrumentation_scope=scope,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.started_ns,
            end_time=span.ended_ns,
        )

    return converted
