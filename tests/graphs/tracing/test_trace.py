"""The tree of a request's spans."""

import asyncio
from dataclasses import replace

import pytest

from deployments.errors import Overloaded
from deployments.span import Span, TraceContext
from graphs.tracing import trace as trace_module
from graphs.tracing.trace import Trace, span

CLIENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)


def parents(trace: Trace) -> dict[str, str]:
    """Return each span's parent, by name."""
    names = {one.id: one.name for one in trace.spans}
    return {one.name: names.get(one.parent_id, one.parent_id) for one in trace.spans}


def test_a_clients_trace_is_continued() -> None:
    trace = Trace("POST /graph", CLIENT)
    assert (trace.id, trace.root.parent_id) == (CLIENT.trace_id, CLIENT.span_id)
    assert trace.context() == (f"00-{CLIENT.trace_id}-{trace.root.id}-01",)


def test_a_clients_tracestate_goes_on() -> None:
    trace = Trace("POST /graph", replace(CLIENT, state="a=1,b=2"))
    assert trace.context() == (f"00-{CLIENT.trace_id}-{trace.root.id}-01", "a=1,b=2")


@pytest.mark.parametrize("sampled", [True, False])
def test_a_client_that_sends_its_context_is_told_where_it_goes_on(sampled: bool) -> None:
    trace = Trace("POST /graph", replace(CLIENT, sampled=sampled))
    assert trace.traceresponse == f"00-{CLIENT.trace_id}-{trace.root.id}-0{int(sampled)}"
    assert Trace("POST /graph").traceresponse == ""


def test_spans_are_the_children_of_the_one_around_them() -> None:
    trace = Trace("POST /graph")
    with trace.span("whisper"):
        with trace.span("queue"):
            pass
        with trace.span("call", "client"):
            (traceparent,) = trace.context()
    with trace.span("diffusion"):
        pass
    assert parents(trace) == {
        "POST /graph": "",
        "whisper": "POST /graph",
        "queue": "whisper",
        "call": "whisper",
        "diffusion": "POST /graph",
    }
    call = next(one for one in trace.spans if one.name == "call")
    assert traceparent == f"00-{trace.id}-{call.id}-01"
    assert call.kind == "client"


async def test_branches_that_run_at_once_do_not_mix() -> None:
    trace = Trace("POST /graph")

    async def branch(name: str) -> None:
        with trace.span(name):
            await asyncio.sleep(0)
            with trace.span(f"{name} queue"):
                await asyncio.sleep(0)

    with trace.span("both"):
        await asyncio.gather(branch("1"), branch("2"))
    found = parents(trace)
    assert (found["1"], found["2"], found["1 queue"], found["2 queue"]) == ("both", "both", "1", "2")


async def test_a_spans_error_is_the_code_of_what_left_it() -> None:
    trace = Trace("POST /graph")
    for error in (Overloaded("too many"), ValueError("a defect"), asyncio.CancelledError()):
        with pytest.raises(type(error)), trace.span("work"):
            raise error
    codes = [Overloaded.code, "internal", "cancelled"]
    assert [one.error for one in trace.spans[1:]] == codes
    assert [one.attributes["error.type"] for one in trace.spans[1:]] == codes


async def test_a_mirrored_call_has_a_trace_of_its_own_that_leads_to_its_requests() -> None:
    ended: list[Trace] = []
    trace = Trace("POST /graph", CLIENT, on_end=ended.append, **{"sonograph.request_id": "id-1"})

    async def call() -> None:
        with trace.mirror("mirror whisper") as mirror:
            with span(mirror, "whisper-candidate"):
                await asyncio.sleep(0)
            mirror.add([Span("left behind", mirror.root.id)])

    with trace.span("whisper"):
        task = asyncio.create_task(call())
    trace.end(200)
    spans = list(trace.spans)
    await task
    request, mirror = ended
    assert request is trace
    assert trace.spans == spans
    assert (mirror.origin, mirror.root.kind, mirror.root.error) == (trace, "internal", None)
    assert mirror.id != trace.id
    assert mirror.root.attributes == {"sonograph.request_id": "id-1"}
    assert parents(mirror) == {"mirror whisper": "", "whisper-candidate": "mirror whisper", "left behind": "mirror whisper"}
    assert all(one.ended_ns for one in mirror.spans)


def test_a_mirrored_calls_trace_has_the_words_where_its_requests_has() -> None:
    for words in (True, False):
        with Trace("POST /graph", words=words).mirror("mirror whisper") as mirror:
            assert mirror.words is words


async def test_the_error_of_a_mirrored_call_is_the_code_of_what_left_it() -> None:
    trace = Trace("POST /graph")
    for error, code in ((Overloaded("too many"), Overloaded.code), (asyncio.CancelledError(), "cancelled")):
        with pytest.raises(type(error)), trace.mirror("mirror whisper") as mirror:
            raise error
        assert mirror.root.error == code


def test_the_end_of_a_request_ends_what_still_runs() -> None:
    trace = Trace("POST /graph")
    trace.add([Span("left behind", trace.root.id)])
    trace.end(504, "deadline_exceeded")
    assert all(one.ended_ns >= one.started_ns for one in trace.spans)
    assert trace.root.error == "deadline_exceeded"
    assert trace.root.attributes["http.response.status_code"] == 504


def test_a_clients_error_is_none_of_the_servers() -> None:
    trace = Trace("POST /graph")
    trace.end(422, "invalid_parameter")
    assert trace.root.error is None
    assert trace.root.attributes["error.type"] == "invalid_parameter"


def test_a_trace_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "MOST_SPANS", 4)
    monkeypatch.setattr(trace_module, "MOST_EVENTS", 2)
    trace = Trace("POST /graph")
    long = Span("compute")
    for step in range(5):
        long.event("denoising step", step=step)
    trace.add([long, *(Span("window") for _ in range(10))])
    with trace.span("beyond"):
        pass
    assert len(trace.spans) == 4
    assert trace.dropped == 8 + 1
    assert len(long.events) == 2


def test_without_a_trace_there_is_no_span() -> None:
    with span(None, "work") as found:
        assert found is None
