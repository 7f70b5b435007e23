"""Traces of the real service: each process' spans in one tree, kept in the ingress and sent to a collector."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployments.span import TraceContext, new_id
from testing import speech
from testing.collector import Collector, wait_for
from testing.jaeger import Jaeger
from testing.service import ROOT, Service, environment

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
DOCS = (ROOT / "docs" / "traces.md").read_text()
SPANS, ATTRIBUTES = (DOCS.split(head)[1].split("\n\n")[0] for head in ("| span | time of |", "| attribute | of | value |"))
EVENTS = {"Accept": "text/event-stream"}


def trace_of(service: Service, id: str) -> dict[str, Any]:
    """Return the trace that the service keeps; of a request whose client has left, once it has ended."""
    service.wait_until(lambda: service.client.get(f"/graph/traces/{id}").status_code == 200, "the trace is kept")
    return dict(service.client.get(f"/graph/traces/{id}").json())


def tree(trace: dict[str, Any]) -> dict[str, str]:
    """Return the name of each span's parent by the span's way of names, such as `whisper queue` for the queue of whisper."""
    by_id = {span["id"]: span for span in trace["spans"]}

    def names(span: dict[str, Any]) -> Iterator[str]:
        parent = by_id.get(span["parent_id"])
        if parent is not None:
            yield from names(parent)
        yield span["name"]

    return {" > ".join(names(span)): span["id"] for span in trace["spans"]}


MODEL = {
    "whisper": "whisper > call whisper > Whisper > triton whisper > compute",
    "diffusion": "diffusion > call diffusion > Diffusion > triton diffusion > compute",
}


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_request_is_one_tree_down_to_the_models_windows_and_steps(service: Service, accept: str) -> None:
    id = f"traced-{accept[-4:]}"
    sent = {"files": {"file": CAT}, "data": {"steps": "3", "seed": "1"}, "headers": {"Accept": accept, "X-Request-ID": id}}
    assert service.client.post("/graph", **sent).status_code == 200
    trace = trace_of(service, id)
    ways = tree(trace)
    assert {
        f"POST /graph > {part}" for part in ("receive", "decode > queue", "whisper > queue", "diffusion > queue")
    } <= ways.keys()
    assert {f"POST /graph > {way}" for way in MODEL.values()} <= ways.keys()
    assert {f"POST /graph > {way.replace('compute', 'queue')}" for way in MODEL.values()} <= ways.keys()
    assert f"POST /graph > {MODEL['whisper']} > window" in ways
    assert f"POST /graph > {MODEL['diffusion']} > encode" in ways
    by_id = {span["id"]: span for span in trace["spans"]}
    denoising = by_id[ways[f"POST /graph > {MODEL['diffusion']}"]]
    assert [event["attributes"]["sonograph.step"] for event in denoising["events"]] == [1, 2, 3]
    encoding = by_id[ways[f"POST /graph > {MODEL['diffusion']} > encode"]]
    assert encoding["attributes"]["sonograph.image.bytes"] > 0
    assert encoding["start_ms"] >= denoising["events"][-1]["at_ms"]
    for name in {span["name"] for span in trace["spans"]} - {"call diffusion", "triton diffusion"}:  # as whisper's
        assert f"`{name}`" in SPANS
    for part in (part for span in trace["spans"] for part in (span, *span["events"])):
        assert all(f"`{name}`" in ATTRIBUTES for name in part["attributes"])
    assert trace["dropped"] == 0
    for span in trace["spans"]:  # on one machine a child lies inside of its parent, up to the clocks' own resolution
        if parent := by_id.get(span["parent_id"]):
            assert span["start_ms"] >= parent["start_ms"] - 1
            assert span["start_ms"] + span["took_ms"] <= parent["start_ms"] + parent["took_ms"] + 1
    assert "cat" not in str(trace["spans"]).lower().replace("category", "")


def client() -> TraceContext:
    """Return the context of a client that wants its trace kept."""
    return TraceContext(new_id(32), new_id(16), True)


def assert_is_at(receiver: Collector | Jaeger, trace: dict[str, Any]) -> None:
    received = wait_for(receiver.received, trace["trace_id"], len(trace["spans"]))
    assert received.as_kept() == {span["id"]: span for span in trace["spans"]}
    assert received.services == {"sonograph"}
    if isinstance(receiver, Jaeger):
        assert receiver.orphans(trace["trace_id"]) == ["POST /graph"]  # whose parent is the client's
        assert receiver.found("POST /graph", **{"sonograph.request_id": trace["request_id"]}) == {trace["trace_id"]}


def test_a_clients_trace_goes_on_and_reaches_a_collector(service: Service, receiver: Collector | Jaeger) -> None:
    caller = client()
    headers = {"traceparent": str(caller), "tracestate": "congo=t61rcWkgMzE"}
    answer = service.client.post("/graph", files={"file": CAT}, data={"steps": "2"}, headers=headers)
    assert answer.status_code == 200
    trace = trace_of(service, caller.trace_id)
    assert trace["spans"][0]["parent_id"] == caller.span_id
    assert answer.headers["traceresponse"] == f"00-{caller.trace_id}-{trace['spans'][0]['id']}-01"
    assert_is_at(receiver, trace)
    assert {span.trace_state for span in receiver.received(trace["trace_id"]).spans} == {"congo=t61rcWkgMzE"}


def test_a_cancelled_request_and_those_of_a_batch_reach_a_collector(service: Service, receiver: Collector | Jaeger) -> None:
    cancelled, *drawn = (client() for _ in range(4))

    def draw(caller: TraceContext) -> int:
        headers = {"traceparent": str(caller)}
        return service.client.post("/graph", files={"file": CAT}, data={"steps": "4"}, headers=headers).status_code

    with service.events(CAT, headers={"traceparent": str(cancelled)}, steps="150", width="512", height="512") as events:
        assert any(event["type"] == "image.step" for event in events)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(draw, drawn)) == [200] * 3
    for caller in (cancelled, *drawn):
        assert_is_at(receiver, trace_of(service, caller.trace_id))


def test_a_cancelled_request_is_marked(service: Service) -> None:
    id = "traced-cancelled"
    with service.events(CAT, headers={"X-Request-ID": id}, steps="150", width="512", height="512") as events:
        assert any(event["type"] == "image.step" for event in events)
    trace = trace_of(service, id)
    assert trace["status"] == 499
    assert {span["error"] for span in trace["spans"] if span["name"] in ("diffusion", "call diffusion")} == {"cancelled"}


def test_requests_of_one_batch_have_their_own_spans(service: Service) -> None:
    def draw(number: int) -> int:
        headers = {"X-Request-ID": f"traced-batch-{number}"}
        return service.client.post("/graph", files={"file": CAT}, data={"steps": "4"}, headers=headers).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, range(4))) == [200] * 4
    traces = [trace_of(service, f"traced-batch-{number}") for number in range(4)]
    assert len({trace["trace_id"] for trace in traces}) == 4
    ids = [span["id"] for trace in traces for span in trace["spans"]]
    assert len(set(ids)) == len(ids)
    for trace in traces:
        assert {f"POST /graph > {way}" for way in MODEL.values()} <= tree(trace).keys()


def test_the_command_draws_the_waterfall(service: Service) -> None:
    service.client.post("/graph", files={"file": CAT}, data={"steps": "2"}, headers={"X-Request-ID": "traced-command"})
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "trace", "traced-command", "--url", service.url]
    shown = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True).stdout
    for name in ("POST /graph", "decode", "triton whisper", "window", "2 × denoising step"):
        assert name in shown
