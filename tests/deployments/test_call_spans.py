"""A call's spans in a replica, and their way back to the caller."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, Callable
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from deployments import call_spans
from deployments.base import ModelDeployment
from deployments.call_spans import Traced
from deployments.errors import DeploymentError
from deployments.span import Span, TraceContext, to_json
from deployments.time_left import TimeLeft

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Painter(ModelDeployment[Any, str, str]):
    def __init__(self) -> None:
        pass

    def engine_config(self, threads: int) -> Any: ...

    def warm_up(self) -> Any: ...

    async def run(self, request: str, time_left: TimeLeft, request_id: str = "") -> str:
        await asyncio.sleep(0)
        found = call_spans.current()
        if found is not None:
            found.spans.append(Span(request, found.root.id))
        return f"{request} by {request_id}"

    async def stream(self, request: str, time_left: TimeLeft, request_id: str = "") -> AsyncGenerator[str]:
        yield "half"
        yield await self.run(request, time_left, request_id)


async def test_a_call_without_a_trace_records_nothing() -> None:
    assert await Painter().run("a", TimeLeft(5), "1") == "a by 1"
    assert call_spans.current() is None


async def test_each_calls_spans_are_its_own() -> None:
    painter = Painter()
    answers = await asyncio.gather(*(painter.run_traced(text, TimeLeft(5), text, TRACEPARENT) for text in "abc"))
    assert [answer.result for answer in answers] == ["a by a", "b by b", "c by c"]
    for text, answer in zip("abc", answers, strict=True):
        root, own = answer.spans
        assert (root.name, root.kind, root.parent_id) == ("Painter", "server", "00f067aa0ba902b7")
        assert (own.name, own.parent_id) == (text, root.id)
        assert root.ended_ns >= root.started_ns


async def test_a_streams_spans_come_last() -> None:
    items = [item async for item in Painter().stream_traced("a", TimeLeft(5), "1", TRACEPARENT)]
    assert items[:2] == ["half", "a by 1"]
    (last,) = items[2:]
    assert isinstance(last, Traced)
    assert [span.name for span in last.spans] == ["Painter", "a"]


async def test_a_closed_stream_leaves_no_recording() -> None:
    stream = Painter().stream_traced("a", TimeLeft(5), "1", TRACEPARENT)
    assert await anext(stream) == "half"
    await stream.aclose()
    assert call_spans.current() is None


async def test_a_malformed_traceparent_of_our_own_is_a_defect() -> None:
    with pytest.raises(DeploymentError, match="malformed"):
        await Painter().run_traced("a", TimeLeft(5), "1", "00-")


@pytest.mark.parametrize(("sent", "found"), [((), None), (("a=1,b=2",), "a=1,b=2")])
def test_a_models_call_has_the_callers_context(sent: tuple[str, ...], found: str | None) -> None:
    with call_spans.recorded("Painter", TRACEPARENT, *sent), call_spans.model_call("triton painter") as call:
        assert call.parameters["traceparent"].startswith(TRACEPARENT[:35])
        assert call.parameters.get("tracestate") == found


@pytest.mark.parametrize("as_sent", [lambda content: content, lambda content: np.array([content], dtype=np.object_)])
def test_the_wait_before_the_models_computation_is_a_span_of_its_own(as_sent: Callable[[bytes], Any]) -> None:
    with call_spans.recorded("Painter", TRACEPARENT) as found:
        with call_spans.model_call("triton painter") as call:
            caller = TraceContext.parse(call.parameters["traceparent"])
            assert caller is not None
            compute = Span("compute", caller.span_id)
            compute.end()
            step = Span("step", compute.id)
            outputs = {call_spans.OUTPUT: as_sent(to_json([compute, step])), "IMAGE": 1}
            call.take(outputs)
        assert outputs == {"IMAGE": 1}
    _, triton, queue, *inner = found.spans
    assert inner == [compute, step]
    assert (triton.name, queue.name, queue.parent_id) == ("triton painter", "queue", triton.id)
    assert (queue.started_ns, queue.ended_ns) == (triton.started_ns, compute.started_ns)


def test_a_call_that_nobody_records_leaves_the_responses_as_they_are() -> None:
    with call_spans.model_call("triton painter") as call:
        call.take(outputs := {"IMAGE": 1})
    assert (outputs, call.parameters) == ({"IMAGE": 1}, {})


def test_a_traced_result_is_pickled_as_it_is() -> None:
    span = Span("compute", "0" * 15 + "1", attributes={"count": 1, "share": 0.5}, error="internal")
    span.event("step", index=1)
    sent = Traced({"TEXT": "a fox"}, [span, Span("step", span.id)])
    assert pickle.loads(cloudpickle.dumps(sent)) == sent
