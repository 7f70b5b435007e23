"""The spans of a stage: its queue, each attempt, what the replica sent back, and errors."""

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from deployments.call_spans import Traced
from deployments.errors import InvalidInput
from deployments.span import Span, TraceContext
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext, fan_out
from graphs.tracing.trace import Trace
from tests.graphs.core.test_stage import Harness, Painting, PaintRequest


def traced(*scripts: list[Any]) -> tuple[Harness, Trace]:
    harness = Harness(*scripts)
    harness.context.trace = Trace("POST /graph")
    harness.stage.records = True  # as a model in Triton does
    return harness, harness.context.trace


def tree(trace: Trace) -> list[str]:
    """Return each span's way from the root, in the order in which they began."""
    by_id = {one.id: one for one in trace.spans}

    def way(span: Span) -> str:
        parent = by_id.get(span.parent_id)
        return span.name if parent is None else f"{way(parent)} > {span.name}"

    return [way(span) for span in trace.spans[1:]]


def replica_spans(harness: Harness) -> list[Span]:
    """Return spans as a replica makes them: the caller's span is their parent."""
    caller = TraceContext.parse(harness.handle.calls[-1][1][-1])
    assert caller is not None
    root = Span("Painter", caller.span_id)
    return [root, Span("triton painter", root.id)]


async def test_a_calls_spans_become_the_traces() -> None:
    harness, trace = traced([Traced(Painting(), [])])
    harness.handle.released.clear()
    call = asyncio.create_task(harness.call())
    await asyncio.sleep(0.05)
    harness.handle.responses[-1].script[-1] = Traced(Painting(), replica_spans(harness))
    harness.handle.released.set()
    assert await call == Painting()
    call_ = "POST /graph > painter > call painter"
    assert tree(trace) == [
        "POST /graph > painter",
        "POST /graph > painter > queue",
        call_,
        f"{call_} > Painter",
        f"{call_} > Painter > triton painter",
    ]
    method, arguments = harness.handle.calls[0]
    assert method == "run_traced"
    assert arguments[-1].startswith(f"00-{trace.id}-")
    stage = trace.spans[1]
    assert stage.attributes["gen_ai.response.model"] == "old master"
    assert stage.attributes["sonograph.batch_size"] == 3


async def test_calls_that_run_at_once_have_a_span_each() -> None:
    harness, trace = traced([Traced(Painting(), [])])
    calls = {str(number): lambda branch: harness.stage(PaintRequest(), branch) for number in range(4)}
    assert list((await fan_out(harness.context, calls)).values()) == [Painting()] * 4
    stage = "POST /graph > painter"
    assert sorted(tree(trace)) == sorted(4 * [stage, f"{stage} > queue", f"{stage} > call painter"])


async def test_a_clients_tracestate_goes_to_the_replica() -> None:
    for stream in (False, True):
        harness, _ = traced([Painting(), Traced(Painting(), [])][not stream :])
        client = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "a=1,b=2")
        harness.context.trace = Trace("POST /graph", client)
        assert await harness.call(stream=stream) == Painting()
        _, arguments = harness.handle.calls[0]
        assert arguments[-2].startswith(f"00-{client.trace_id}-")
        assert arguments[-1] == "a=1,b=2"


async def test_a_failed_call_names_its_model() -> None:
    harness, trace = traced([InvalidInput("no such language")])
    with pytest.raises(InvalidInput):
        await harness.call()
    assert trace.spans[1].attributes == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "sonograph",
        "gen_ai.request.model": "old master",
        "gen_ai.output.type": "image",
        "error.type": InvalidInput.code,
    }


@pytest.mark.parametrize("words", [True, False])
async def test_the_words_are_in_a_span_where_a_setting_says_so(words: bool) -> None:
    harness, _ = traced([Traced(Painting(), [])])
    harness.context.trace = trace = Trace("POST /graph", words=words)
    await harness.call()
    assert ("gen_ai.input.messages" in trace.spans[1].attributes) is words
    assert ("a fox" in repr(trace.spans)) is words


async def test_a_streams_spans_become_the_traces() -> None:
    harness, trace = traced(["progress", Painting(), Traced(None, [Span("Painter", "0" * 15 + "1")])])
    assert await harness.call(stream=True) == Painting()
    assert harness.progress[-1:] == ["progress"]
    assert "Painter" in [span.name for span in trace.spans]
    assert harness.handle.calls[0][0] == "stream_traced"


async def test_each_attempt_has_its_span() -> None:
    harness, trace = traced([ActorDiedError()], [Traced(Painting(), [])])
    assert await harness.call() == Painting()
    attempts = [span for span in trace.spans if span.name == "call painter"]
    assert [span.error for span in attempts] == ["internal", None]
    assert {span.parent_id for span in attempts} == {trace.spans[1].id}


async def test_a_failed_call_names_its_code() -> None:
    harness, trace = traced([InvalidInput("no such language")])
    with pytest.raises(InvalidInput):
        await harness.call()
    assert [span.error for span in trace.spans if span.name in ("painter", "call painter")] == [InvalidInput.code] * 2


async def test_a_cancelled_call_is_marked() -> None:
    harness, trace = traced([Traced(Painting(), [])])
    harness.handle.released.clear()
    call = asyncio.create_task(harness.call())
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert {span.error for span in trace.spans if span.name != "queue" and span is not trace.root} == {"cancelled"}
    assert all(span.ended_ns for span in trace.spans[1:])


async def test_a_stub_is_called_plainly_and_has_the_spans_of_the_ingress() -> None:
    """A plain class with `run` and `stream`, which knows of no spans."""
    for stream, method in ((False, "run"), (True, "stream")):
        harness, trace = traced([Painting()])
        harness.stage.records = False
        assert await harness.call(stream=stream) == Painting()
        called, arguments = harness.handle.calls[0]
        assert (called, len(arguments)) == (method, 3)
        assert tree(trace)[-1] == "POST /graph > painter > call painter"


async def test_without_a_trace_the_call_asks_for_no_spans() -> None:
    harness = Harness([Painting()])
    assert await harness.stage(PaintRequest(), RequestContext("id", TimeLeft(5))) == Painting()
    assert harness.handle.calls[0][0] == "run"
    assert len(harness.handle.calls[0][1]) == 3
