"""An OpenTelemetry collector for tests: receives OTLP over HTTP and over gRPC, and keeps the spans.

Every run of the suite imports this module, and few use it: the packages of OTLP are imported where they are used.
"""

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

WAIT_S = 60
KINDS = {1: "internal", 2: "server", 3: "client"}
"""OTLP's SpanKind."""
ERROR = 2
"""OTLP's STATUS_CODE_ERROR."""


@dataclass(frozen=True)
class Received:
    """One trace as a collector has it."""

    spans: list[Any]
    """As OTLP has them."""
    services: set[str]
    """The `service.name` of their resources."""

    @classmethod
    def of(cls, messages: Iterable[Any], trace_id: str) -> Self:
        """Select a trace's spans. `messages`: OTLP's, with `resource_spans`."""
        found = [
            (span, _values(resource.resource.attributes)["service.name"])
            for message in messages
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.trace_id.hex() == trace_id
        ]
        return cls([span for span, _ in found], {service for _, service in found})

    def as_kept(self) -> dict[str, dict[str, Any]]:
        """Return the spans by their ids, as `GET /graph/traces/{id}` has those that the service keeps."""
        zero_ns = min(span.start_time_unix_nano for span in self.spans)
        return {span.span_id.hex(): _as_kept(span, zero_ns) for span in self.spans}


def _as_kept(span: Any, zero_ns: int) -> dict[str, Any]:
    return {
        "id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "name": span.name,
        "kind": KINDS[span.kind],
        "start_ms": round((span.start_time_unix_nano - zero_ns) / 1e6, 3),
        "took_ms": round((span.end_time_unix_nano - span.start_time_unix_nano) / 1e6, 3),
        "error": span.status.message if span.status.code == ERROR else None,
        "attributes": _values(span.attributes),
        "events": [
            {
                "name": one.name,
                "at_ms": round((one.time_unix_nano - zero_ns) / 1e6, 3),
                "attributes": _values(one.attributes),
            }
            for one in span.events
        ],
    }


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def wait_for(received: Callable[[str], Received], trace_id: str, spans: int) -> Received:
    """Wait until a collector has so many spans of a trace: a service sends them some seconds after the answer."""
    deadline_s = time.monotonic() + WAIT_S
    while len((found := received(trace_id)).spans) < spans:
        assert time.monotonic() < deadline_s, f"{len(found.spans)} of {spans} spans are at the collector after {WAIT_S} s"
        time.sleep(0.1)
    return found


@dataclass
class Collector:
    url: str = ""
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, with names in lower case."""
    refusals: list[int] = field(default_factory=list)
    """Statuses of the first answers, over gRPC each UNAVAILABLE; what they refuse is not kept."""
    next_url: str = ""
    """A further collector, which gets each request too and whose status is the answer; empty: none. Over HTTP alone."""

    def received(self, trace_id: str) -> Received:
        return Received.of(self.requests, trace_id)


@contextlib.contextmanager
def over_http() -> Iterator[Collector]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            if collector.refusals:
                self.send_response(collector.refusals.pop(0))
                self.end_headers()
                return
            if self.headers["content-encoding"] == "gzip":
                content = gzip.decompress(content)
            collector.requests.append(ExportTraceServiceRequest.FromString(content))
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(self._pass_on(content) if collector.next_url else 200)
            self.end_headers()

        def _pass_on(self, content: bytes) -> int:
            headers = {"Content-Type": self.headers["content-type"]}
            return httpx.post(f"{collector.next_url}{self.path}", content=content, headers=headers).status_code

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def over_grpc() -> Iterator[Collector]:
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    collector = Collector()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            if collector.refusals:
                context.abort(grpc.StatusCode.UNAVAILABLE, str(collector.refusals.pop(0)))
            collector.requests.append(request)
            collector.headers.append(dict(context.invocation_metadata()))
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()
