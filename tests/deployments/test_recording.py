"""A call's spans in a replica, and their way back to the caller."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from deployments import recording
from deployments.base import ModelDeployment
from deployments.errors import DeploymentError
from deployments.recording import Traced
from deployments.span import Span
from deployments.time_left import TimeLeft

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Painter(ModelDeployment[Any, str, str]):
    def __init__(self) -> None:
        pass

    def engine_config(self, threads: int) -> Any: ...

    def warm_up(self) -> Any: ...

    async def run(self, request: str, time_left: TimeLeft, request_id: str = "") -> str:
        await asyncio.sleep(0)
        found = recording.current()
        if found is not None:
            found.spans.append(Span(request, found.root.id))
        return f"{request} by {request_id}"

    async def stream(self, request: str, time_left: TimeLeft, request_id: str = "") -> AsyncGenerator[str]:
        yield "half"
        yield await self.run(request, time_left, request_id)


async def test_a_call_without_a_trace_records_nothing() -> None:
    assert await Painter().run("a", TimeLeft(5), "1") == "a by 1"
    assert recording.current() is None


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
    assert recording.current() is None


async def test_a_malformed_traceparent_of_our_own_is_a_defect() -> None:
    with pytest.raises(DeploymentError, match="malformed"):
        await Painter().run_traced("a", TimeLeft(5), "1", "00-")
