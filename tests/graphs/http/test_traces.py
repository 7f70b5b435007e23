"""A request's trace at the HTTP edge: begun with the client's context, ended with the answer, kept."""

import dataclasses
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.routing import Route

from deployments.errors import DeploymentError
from graphs.http.app import create_app
from graphs.http.settings import HttpSettings
from graphs.http.tracing import attributes
from graphs.tracing.settings import TracingSettings
from graphs.tracing.traces import Traces
from testing.fakes import FakeService, Sent

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FILES = {"file": b"sound"}
ANNA, BEN = "anna-has-a-long-key", "ben-has-another-key"


def keys(folder: Path) -> Path:
    """A file in which Anna alone is an operator."""
    file = folder / "keys"
    file.write_text(f"anna {ANNA} operator\nben {BEN}\n")
    return file


def service(sent: Sent) -> FakeService:
    return FakeService(traces=Traces(TracingSettings(sample_ratio=1), sent))


async def test_a_request_has_the_spans_of_the_edge() -> None:
    sent = Sent()
    async with service(sent).client() as client:
        answer = await client.post("/graph", files=FILES, headers={"traceparent": TRACEPARENT, "x-request-id": "id-1"})
    assert answer.status_code == 200
    (trace,) = sent
    assert (trace.id, trace.root.parent_id) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    assert trace.root.name == "POST /graph"
    assert trace.root.attributes == {
        "http.request.method": "POST",
        "http.route": "/graph",
        "url.path": "/graph",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "service",
        "server.port": 80,
        "sonograph.request_id": "id-1",
        "http.response.status_code": 200,
    }
    assert [span.name for span in trace.spans] == ["POST /graph", "receive", "decode"]
    assert all(span.ended_ns for span in trace.spans)


async def test_the_end_of_the_service_sends_what_waits() -> None:
    sent = Sent()
    app = service(sent).app()
    async with app.router.lifespan_context(app):
        assert not sent.closed
    assert sent.closed


async def test_nothing_that_was_said_or_sent_is_in_a_span() -> None:
    sent = Sent()
    async with service(sent).client() as client:
        await client.post("/graph", files=FILES, data={"prompt_prefix": "a secret of"}, headers={"traceparent": "an evil\tone"})
        await client.post("/graph?prompt_prefix=a+secret", files=FILES, headers={"user-agent": "secret"})
    assert len(sent) == 2
    assert "secret" not in repr([trace.spans for trace in sent])
    assert "apple" not in repr([trace.spans for trace in sent])
    assert "evil" not in repr([(trace.id, trace.spans) for trace in sent])


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("service:8000", ("service", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("127.0.0.1", ("127.0.0.1", 80)),
        ("a" * 254, None),
        ("a b", None),
        ("<script>", None),
        ("service:800000", None),
    ],
)
def test_a_host_is_an_attribute_where_it_is_one(host: str, address: tuple[str, int] | None) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "http_version": "1.1",
        "path": "/graph",
        "route": Route("/graph", print),
        "headers": [(b"host", host.encode())],
    }
    found = attributes(Request(scope))
    assert (found.get("server.address"), found.get("server.port")) == (address or (None, None))


def test_a_path_is_escaped_and_cut() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "https",
        "http_version": "2",
        "path": "/graph/ü \n" + "a" * 1000,
        "route": Route("/graph/{id}", print),
        "headers": [],
    }
    found = attributes(Request(scope))
    assert found["url.path"] == ("/graph/%C3%BC%20%0A" + "a" * 1000)[:256]
    assert (found["url.scheme"], found["http.route"]) == ("https", "/graph/{id}")
    assert "server.address" not in found


async def test_the_clients_tracestate_is_the_traces() -> None:
    sent = Sent()
    headers = [("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]
    async with service(sent).client() as client:
        await client.post("/graph", files=FILES, headers=headers)
        await client.post("/graph", files=FILES, headers=[("traceparent", TRACEPARENT), *headers])  # which is malformed
    assert [(trace.id == TRACEPARENT[3:35], trace.state) for trace in sent] == [(True, "a=1,b=2"), (False, "")]


@pytest.mark.parametrize(
    ("error", "status", "code"), [(DeploymentError("as if"), 500, "internal"), (ValueError("as if"), 500, "internal")]
)
async def test_a_failure_is_the_roots(error: Exception, status: int, code: str) -> None:
    sent = Sent()
    faulty = service(sent)
    faulty.undecodable = error
    async with faulty.client() as client:
        assert (await client.post("/graph", files=FILES)).status_code == status
    (trace,) = sent
    assert trace.root.error == code
    assert [span.error for span in trace.spans if span.name == "decode"] == [code]


async def test_a_refused_request_has_a_trace() -> None:
    sent = Sent()
    async with service(sent).client() as client:
        assert (await client.post("/graph", files=FILES, data={"steps": "none"})).status_code == 422
    (trace,) = sent
    assert trace.root.attributes["error.type"] == "invalid_parameter"
    assert trace.root.attributes["http.response.status_code"] == 422


async def test_streams_have_a_trace_that_ends_with_them() -> None:
    sent = Sent()
    async with service(sent).client() as client:
        answer = await client.post("/graph", files=FILES, headers={"accept": "text/event-stream"})
        assert "event: done" in answer.text
    assert len(sent) == 1


async def test_pages_and_probes_have_none() -> None:
    sent = Sent()
    async with service(sent).client() as client:
        for path in ("/healthz", "/readyz", "/"):
            await client.get(path)
    assert sent == []


async def test_an_operator_reads_a_kept_trace() -> None:
    keeping = FakeService(traces=Traces(TracingSettings()))
    async with keeping.client() as client:
        await client.post("/graph", files=FILES, headers={"traceparent": TRACEPARENT, "x-request-id": "id-1"})
        await client.post("/listen", files=FILES, headers={"x-request-id": "id-2"})
        found = {id: await client.get(f"/graph/traces/{id}") for id in ("last", "slowest", "id-1", TRACEPARENT[3:35], "id-3")}
    assert [answer.status_code for answer in found.values()] == [200, 200, 200, 200, 404]
    assert found["last"].json()["request_id"] == "id-2"
    trace = found["id-1"].json()
    assert trace == found[TRACEPARENT[3:35]].json()
    assert (trace["trace_id"], trace["status"], trace["dropped"]) == (TRACEPARENT[3:35], 200, 0)
    first, *inner = trace["spans"]
    assert first["name"] == "POST /graph"
    assert {span["parent_id"] for span in inner} == {first["id"]}
    assert all(span["start_ms"] >= 0 and span["took_ms"] >= 0 for span in trace["spans"])


REQUESTS: dict[str, dict[str, Any]] = {
    "/graph": {"files": FILES},
    "/listen": {"files": FILES, "headers": {"accept": "text/event-stream"}},
    "/v1/audio/transcriptions": {"files": FILES, "data": {"model": "whisper-1"}},
    "/v1/images/generations": {"json": {"prompt": "a red apple"}},
}


@pytest.mark.parametrize("path", REQUESTS)
async def test_the_answer_tells_an_operator_alone_the_id_of_its_trace(tmp_path: Path, path: str) -> None:
    keeping = FakeService(HttpSettings(api_keys_file=keys(tmp_path)), traces=Traces(TracingSettings()))
    async with keeping.client() as client:
        client.headers["authorization"] = f"Bearer {BEN}"
        ben = await client.post(path, **REQUESTS[path])
        client.headers["authorization"] = f"Bearer {ANNA}"
        anna = await client.post(path, **REQUESTS[path])
        found = await client.get(f"/graph/traces/{anna.headers['x-trace-id']}")
    assert anna.status_code == ben.status_code == 200
    assert found.json()["spans"][0]["name"] == f"POST {path}"
    assert "x-trace-id" not in ben.headers


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_client_that_sends_its_context_and_no_other_is_told_where_it_goes_on(path: str) -> None:
    sent = Sent()
    async with service(sent).client() as client:
        request = {**REQUESTS[path], "headers": {**REQUESTS[path].get("headers", {}), "traceparent": TRACEPARENT}}
        told = await client.post(path, **request)
        others = [
            await client.post(path, **REQUESTS[path]),
            await client.post(path, **{**request, "headers": {**request["headers"], "traceparent": "00-evil"}}),
        ]
    assert told.status_code == 200
    assert told.headers["traceresponse"] == f"{TRACEPARENT[:35]}-{sent[0].root.id}-01"
    assert not [answer for answer in others if "traceresponse" in answer.headers]


async def test_a_refusal_and_a_failure_have_the_context_too() -> None:
    sent = Sent()
    faulty = service(sent)
    faulty.undecodable = ValueError("as if")
    async with faulty.client() as client:
        answers = [
            await client.post("/graph", files=FILES, data={"steps": "none"}, headers={"traceparent": TRACEPARENT}),
            await client.post("/graph", files=FILES, headers={"traceparent": TRACEPARENT}),
            await client.post("/nothing", headers={"traceparent": TRACEPARENT}),
        ]
    assert [answer.status_code for answer in answers] == [422, 500, 404]
    found = [answer.headers.get("traceresponse") for answer in answers]
    assert found == [*(f"{TRACEPARENT[:35]}-{trace.root.id}-01" for trace in sent), None]


async def test_a_trace_that_is_not_kept_has_no_id_in_the_answer() -> None:
    sent = Sent()
    sending = FakeService(traces=Traces(TracingSettings(max_traces=0, sample_ratio=1), sent))
    async with sending.client() as client:
        answer = await client.post("/graph", files=FILES)
    assert len(sent) == 1
    assert "x-trace-id" not in answer.headers


@pytest.mark.parametrize(("forwarded", "address"), [({"x-forwarded-for": "192.0.2.1"}, "127.0.0.1"), ({}, "192.0.2.1")])
async def test_without_keys_a_client_of_another_machine_is_told_no_id(forwarded: dict[str, str], address: str) -> None:
    app = FakeService(traces=Traces(TracingSettings())).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://service") as client:
        answer = await client.post("/graph", files=FILES, headers=forwarded)
    assert answer.status_code == 200
    assert "x-trace-id" not in answer.headers


async def test_a_trace_is_for_operators(tmp_path: Path) -> None:
    keeping = FakeService(HttpSettings(api_keys_file=keys(tmp_path)), traces=Traces(TracingSettings()))
    async with keeping.client() as client:
        statuses = {
            key: (await client.get("/graph/traces/last", headers={"authorization": f"Bearer {key}"})).status_code
            for key in (ANNA, BEN, "nobodys-key-at-all")
        }
    assert list(statuses.values()) == [404, 403, 401]


@pytest.mark.parametrize("id", ["a" * 65, "a b", "%0a", "é", "a;b"])
async def test_an_id_that_is_none_is_refused(id: str) -> None:
    async with FakeService(traces=Traces(TracingSettings())).client() as client:
        assert (await client.get(f"/graph/traces/{id}")).status_code == 422


async def test_of_several_ingress_replicas_the_right_answer_is_taken() -> None:
    def trace(at: float, took_ms: float) -> dict[str, Any]:
        return {
            "trace_id": "", "request_id": "", "at": at, "took_ms": took_ms, "status": 200, "mirrors": [], "mirror_of": None,
            "replica": "", "kept": 256, "kept_since": at - 1, "dropped": 0, "spans": [],
        }  # fmt: skip

    async def everywhere(id: str) -> list[dict[str, Any] | None]:
        return [trace(1, 50), None, trace(2, 10)]

    keeping = FakeService()
    services = dataclasses.replace(keeping.services(), all_traces=everywhere)
    transport = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/graph/traces/last")).json()["at"] == 2
        slowest = (await client.get("/graph/traces/slowest")).json()
    assert (slowest["at"], slowest["kept"], slowest["kept_since"]) == (1, 512, 1)
