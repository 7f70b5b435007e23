"""Traces to an OpenTelemetry collector: a bounded queue, and a thread that sends what has gathered there in one request.

The packages of OTLP are imported where a collector is set, so that a service without one pays nothing for them.
"""

import gzip
import json
import logging
import math
import queue
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from graphs.tracing import otlp
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

log = logging.getLogger("ray.serve")

GATHER_S = 2.0
"""Time from a trace until its request leaves, with all that have come meanwhile."""
MOST_WAITING = 10_000
"""Spans that wait, about 10 MB; further traces are dropped."""
MOST_SENT = 2_000
"""Spans beyond which a request takes no further trace, about 300 KB: collectors take 4 MiB at most over gRPC."""
CLOSE_S = 5.0
"""Longest wait for the last request at the service's end."""
ATTEMPTS = 4
"""To a collector that does not answer, or refuses for a while; what it does not take then is dropped."""

RETRIED_HTTP = (429, 502, 503, 504)
RETRIED_GRPC = ("CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
"""Statuses after which a request is sent again, as OTLP has it."""

type Post = Callable[["ExportTraceServiceRequest"], None]
"""Function that sends a request. Raises an exception, without its headers, where the collector does not take it."""


class Exporter:
    """Queue and thread of one collector. One other thread calls `send` and `close`."""

    def __init__(self, encode: Callable[[Iterable[Trace]], "ExportTraceServiceRequest"], post: Post) -> None:
        self._encode = encode
        self._post = post
        self._queue: queue.SimpleQueue[Trace | None] = queue.SimpleQueue()
        self._entered = 0
        """Spans so far. Each of these counts is changed in one thread alone."""
        self._left = 0
        self._dropped = 0
        """Traces that found the queue full."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def send(self, trace: Trace) -> None:
        """Queue a trace that has ended, and return at once."""
        if self._entered - self._left >= MOST_WAITING:
            self._dropped += 1
            return
        self._entered += len(trace.spans)
        self._queue.put(trace)

    def close(self) -> None:
        """Send what waits, for at most CLOSE_S."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        reported = 0
        while traces := self._gathered():
            try:
                self._post(self._encode(traces))
            except Exception as error:
                log.warning("%d traces are lost, since the collector did not take them: %s", len(traces), error)
            self._left += sum(len(trace.spans) for trace in traces)
            if (dropped := self._dropped) > reported:
                log.warning("%d traces are lost, since too many wait for the collector", dropped - reported)
                reported = dropped

    def _gathered(self) -> list[Trace]:
        """Wait for the traces of the next request; empty at the end."""
        found: list[Trace] = []
        spans = 0
        trace = self._queue.get()
        if self._entered - self._left < MOST_SENT:
            self._closing.wait(GATHER_S)
        while trace is not None:
            found.append(trace)
            spans += len(trace.spans)
            if spans >= MOST_SENT or self._queue.empty():
                return found
            trace = self._queue.get()
        self._queue.put(None)  # for the next call
        return found


def exporter(settings: TracingSettings) -> Exporter | None:
    """The exporter to the settings' collector; None where they name none. Raises ValueError where a file that they name cannot be used."""
    if not settings.endpoint:
        return None
    from graphs.tracing.encode import encode, resource

    source = resource(settings.service_name, settings.resource)
    more = otlp.read_headers(settings.headers_file) if settings.headers_file else {}
    headers = {name.lower(): value for name, value in {**settings.headers, **more}.items()}  # gRPC knows lower case alone
    roots = otlp.read_certificates(settings.certificate_file) if settings.certificate_file else ""
    post = _over_grpc(settings, headers, roots) if settings.protocol == "grpc" else _over_http(settings, headers)
    return Exporter(lambda traces: encode(traces, source), post)


def _over_http(settings: TracingSettings, headers: dict[str, str]) -> Post:
    import certifi
    import urllib3

    retries = urllib3.Retry(
        ATTEMPTS - 1,
        redirect=False,
        allowed_methods={"POST"},
        status_forcelist=RETRIED_HTTP,
        raise_on_status=False,
        backoff_factor=1,
        backoff_jitter=0.5,
        retry_after_max=math.ceil(settings.timeout_s),
    )
    is_small = settings.compression == "gzip"
    fixed = {"content-type": "application/x-protobuf", **({"content-encoding": "gzip"} if is_small else {}), **headers}
    certificates = ssl.create_default_context(cafile=settings.certificate_file or certifi.where())
    # No proxies, no ~/.netrc: the settings say everything.
    pool = urllib3.PoolManager(headers=fixed, retries=retries, timeout=settings.timeout_s, ssl_context=certificates)
    url = f"{settings.endpoint}/v1/traces"

    def post(request: "ExportTraceServiceRequest") -> None:
        content = request.SerializeToString()
        answer = pool.request("POST", url, body=gzip.compress(content) if is_small else content, redirect=False)
        if not 200 <= answer.status < 300:
            raise OSError(f"it answered {answer.status}")

    return post


def _over_grpc(settings: TracingSettings, headers: dict[str, str], roots: str) -> Post:
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

    retry = {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": "1s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": RETRIED_GRPC,
    }
    service_config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": retry}]})
    options: list[tuple[str, Any]] = [("grpc.service_config", service_config), ("grpc.enable_http_proxy", 0)]
    compression = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
    target = urlsplit(settings.endpoint)
    if target.scheme == "http":
        channel = grpc.insecure_channel(target.netloc, options, compression)
    else:
        credentials = grpc.ssl_channel_credentials(roots.encode() or None)
        channel = grpc.secure_channel(target.netloc, credentials, options, compression)
    stub = TraceServiceStub(channel)  # type: ignore[no-untyped-call]
    metadata = tuple(headers.items())

    def post(request: "ExportTraceServiceRequest") -> None:
        try:
            stub.Export(request, timeout=settings.timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            raise OSError(error.code().name) from None

    return post
