"""Traces over real OTLP, in both protocols, to a receiver that parses them, and to Jaeger."""

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.span import Span, TraceContext
from graphs.tracing import export
from graphs.tracing.export import Exporter, exporter
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import Trace
from graphs.tracing.traces import Traces
from graphs.tracing.view import view
from sonograph.otel import READ
from testing import collector, jaeger
from testing.collector import Collector, wait_for
from testing.jaeger import Jaeger
from testing.service import ROOT

pytestmark = pytest.mark.slow

CLIENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)


def finished() -> Trace:
    trace = Trace("POST /graph", CLIENT, **{"http.route": "/graph", "sonograph.request_id": "id-1"})
    with trace.span("whisper", **{"gen_ai.response.model": "tiny.en"}) as whisper:
        whisper.event("window", number=1)
    trace.add([Span("failed", whisper.id, error="internal")])
    trace.end(503, "model_unavailable")
    return trace


def to(settings: TracingSettings) -> Exporter:
    found = exporter(settings)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("protocol", "running"),
    [
        ("http/protobuf", collector.over_http),
        ("grpc", collector.over_grpc),
        pytest.param("http/protobuf", jaeger.running, marks=pytest.mark.slow, id="http/protobuf-jaeger"),
        pytest.param("grpc", functools.partial(jaeger.running, "grpc"), marks=pytest.mark.slow, id="grpc-jaeger"),
    ],
)
def test_a_trace_reaches_a_collector(
    protocol: str, running: Callable[[], contextlib.AbstractContextManager[Collector | Jaeger]]
) -> None:
    trace = finished()
    with running() as receiver:
        settings = {"endpoint": receiver.url, "protocol": protocol, "headers": {"X-Key": "secret"}, "service_name": "drawing"}
        sender = to(TracingSettings.model_validate(settings))
        sender.send(trace)
        sender.close()
        received = wait_for(receiver.received, trace.id, len(trace.spans))
        assert not isinstance(receiver, Collector) or receiver.headers[0]["x-key"] == "secret"
    found = {span.name: span for span in received.spans}
    root, whisper, failed = found["POST /graph"], found["whisper"], found["failed"]
    assert root.parent_span_id.hex() == CLIENT.span_id
    assert (whisper.parent_span_id, failed.parent_span_id) == (root.span_id, whisper.span_id)
    assert root.kind == 2  # SPAN_KIND_SERVER
    assert (root.status.code, root.status.message, whisper.status.code) == (2, "model_unavailable", 0)  # STATUS_CODE_ERROR, UNSET
    assert root.start_time_unix_nano == trace.root.started_ns
    assert root.end_time_unix_nano == trace.root.ended_ns
    assert received.services == {"drawing"}
    assert received.as_kept() == {span["id"]: span for span in view(trace, Traces(TracingSettings()), "replica")["spans"]}


def test_a_mirrored_calls_trace_links_to_its_requests() -> None:
    trace = finished()
    with trace.mirror("mirror whisper") as mirror, mirror.span("whisper-candidate"):
        pass
    with collector.over_http() as receiver:
        sender = to(TracingSettings(endpoint=receiver.url))
        sender.send(mirror)
        sender.close()
        received = wait_for(receiver.received, mirror.id, 2)
    found = {span.name: span for span in received.spans}
    root, candidate = found["mirror whisper"], found["whisper-candidate"]
    assert {root.trace_id.hex(), candidate.trace_id.hex()} == {mirror.id}
    assert (root.parent_span_id, candidate.parent_span_id) == (b"", root.span_id)
    assert root.kind == 1  # SPAN_KIND_INTERNAL
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in root.links] == [(trace.id, trace.root.id)]
    assert not candidate.links


def test_headers_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("x-key=of%20the%20file, X-Team=a\n")
    with collector.over_http() as received:
        settings = {"endpoint": received.url, "headers": {"x-key": "secret", "x-one": "1"}, "headers_file": file}
        sender = to(TracingSettings.model_validate(settings))
        sender.send(trace := finished())
        sender.close()
        wait_for(received.received, trace.id, 3)
    assert {name: received.headers[0][name] for name in ("x-key", "x-team", "x-one")} == {
        "x-key": "of the file",
        "x-team": "a",
        "x-one": "1",
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: FileNotFoundError"),
        (b"a secret", "is name=value,name=value"),
        (b"\xff", "cannot be read: Unicode"),
    ],
)
def test_a_file_of_headers_that_cannot_be_used_is_refused_without_its_content(
    content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "headers"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as raised:
        exporter(TracingSettings(endpoint="http://127.0.0.1:9", headers_file=file))
    assert str(file) in str(raised.value)
    assert "secret" not in str(raised.value)


SEND = """
import sys
from graphs.tracing.export import exporter
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import Trace
sender = exporter(TracingSettings(endpoint=sys.argv[1], protocol=sys.argv[2]))
trace = Trace("POST /graph")
trace.end(200)
sender.send(trace)
sender.close()
assert {name.split(".")[1] for name in sys.modules if name.startswith("opentelemetry.")} == {"proto"}
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_environment_of_an_ingress_changes_no_export(protocol: str, tmp_path: Path) -> None:
    """`sonograph.otel` has read OpenTelemetry's variables into the settings; its SDK, which reads them itself, does not run there."""
    (tmp_path / ".netrc").write_text("default login netrc password secret\n")
    by_name = {
        "ENDPOINT": "http://127.0.0.1:9",
        "PROTOCOL": "none",
        "COMPRESSION": "gzip",
        "CERTIFICATE": "/nowhere",
        "TIMEOUT": "0",
    }
    of_each = {"HEADERS": "x-key=secret", "ATTRIBUTES": "a=secret", "NAME": "other", "DISABLED": "true", "EXPORTER": "none"}
    values = {**by_name, **of_each, "SAMPLER": "always_off", "ARG": "0"}
    variables = {name: values[name.rpartition("_")[2]] for name in READ}
    variables |= {"OTEL_BSP_MAX_QUEUE_SIZE": "0", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0", "HOME": str(tmp_path)}
    variables |= dict.fromkeys(("http_proxy", "HTTP_PROXY", "grpc_proxy", "all_proxy"), "http://127.0.0.1:9") | {"no_proxy": ""}
    with {"http/protobuf": collector.over_http, "grpc": collector.over_grpc}[protocol]() as received:
        command = [sys.executable, "-c", SEND, received.url, protocol]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, timeout=60)
    (request,) = received.requests
    (resource,) = request.resource_spans
    found = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert found.keys() == {"service.name", "service.version", "service.instance.id"}
    assert found["service.name"] == "sonograph"
    (headers,) = received.headers
    assert "secret" not in str(headers)
    assert not {"authorization", "content-encoding"} & headers.keys()


def test_without_an_endpoint_nothing_is_sent() -> None:
    assert exporter(TracingSettings()) is None


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_file_of_certificates_that_cannot_be_read_is_refused(protocol: str, tmp_path: Path) -> None:
    settings = {"endpoint": "https://127.0.0.1:9", "protocol": protocol, "certificate_file": tmp_path / "ca.pem"}
    with pytest.raises(ValueError, match=r"tracing.certificate_file is .*ca.pem', which cannot be read: FileNotFoundError"):
        exporter(TracingSettings.model_validate(settings))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("content", ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é"])
def test_a_file_without_certificates_is_refused(content: str, protocol: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"tracing.certificate_file is .*ca.pem', which has no certificates in PEM"):
        exporter(
            TracingSettings.model_validate({"endpoint": "https://127.0.0.1:9", "protocol": protocol, "certificate_file": file})
        )


def test_traces_that_end_together_leave_in_one_request() -> None:
    with collector.over_http() as received:
        sender = to(TracingSettings(endpoint=received.url))
        traces = [finished() for _ in range(20)]
        for trace in traces:
            sender.send(trace)
        sender.close()
    (request,) = received.requests
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    assert [span.span_id.hex() for span in scope.spans] == [span.id for trace in traces for span in trace.spans]


def test_a_request_has_a_bounded_number_of_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST_SENT", 6)
    sizes: list[int] = []
    sender = Exporter(list, lambda traces: sizes.append(len(traces)))
    for _ in range(5):
        sender.send(finished())
    sender.close()
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_an_export_is_compressed_where_the_settings_ask_for_it(protocol: str) -> None:
    running = collector.over_http if protocol == "http/protobuf" else collector.over_grpc
    with running() as received:
        sender = to(TracingSettings.model_validate({"endpoint": received.url, "protocol": protocol, "compression": "gzip"}))
        sender.send(trace := finished())
        sender.close()
        wait_for(received.received, trace.id, 3)
    encoding = received.headers[0].get("content-encoding")
    assert encoding == ("gzip" if protocol == "http/protobuf" else None)  # gRPC's own header is not among the metadata


@pytest.mark.parametrize(("protocol", "status"), [("http/protobuf", 429), ("http/protobuf", 503), ("grpc", 503)])
def test_what_a_collector_refuses_for_a_while_is_sent_again(protocol: str, status: int) -> None:
    running = collector.over_http if protocol == "http/protobuf" else collector.over_grpc
    with running() as received:
        received.refusals += [status, status]
        sender = to(TracingSettings.model_validate({"endpoint": received.url, "protocol": protocol}))
        sender.send(trace := finished())
        sender.close()
        assert len(wait_for(received.received, trace.id, 3).spans) == 3
        assert not received.refusals


def test_what_a_collector_refuses_for_good_is_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with collector.over_http() as received:
        received.refusals.append(401)
        sender = to(TracingSettings(endpoint=received.url, headers={"x-key": "secret"}))
        sender.send(finished())
        sender.close()
    assert caplog.messages == ["1 traces are lost, since the collector did not take them: it answered 401"]
    assert not received.requests


def test_a_collector_that_is_away_costs_a_request_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "MOST_WAITING", 30)
    monkeypatch.setattr(export, "ATTEMPTS", 1)
    sender = to(TracingSettings(endpoint="http://127.0.0.1:9"))
    for _ in range(25):
        sender.send(finished())
    sender.close()
    lost, dropped = caplog.messages
    assert lost.startswith("10 traces are lost, since the collector did not take them: ")
    assert "refused" in lost
    assert dropped == "15 traces are lost, since too many wait for the collector"


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "file:///etc/passwd", "ftp://collector", "http://collector:x", "http://me@collector"]
)
def test_an_endpoint_is_an_http_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        TracingSettings(endpoint=endpoint)
