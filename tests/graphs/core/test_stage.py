"""A room as a graph calls it: in turn, within the deadline, once more after a death, and whatever goes wrong comes back as ours."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.compute_time import ComputeTime
from deployments.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
    DeploymentError,
    InvalidInput,
    ModelUnavailable,
    Overloaded,
)
from deployments.time_left import TimeLeft
from graphs.core import stage
from graphs.core.context import Given
from graphs.core.metrics import Figures
from graphs.core.readiness import Rooms
from graphs.core.stage import Stage
from graphs.http.access_log import Line
from graphs.http.events import Queued, Retry
from testing.fakes import room_status, serve_status

AT_ONCE = 8
LONG = TimeLeft(3600)  # counts from the import, which a whole run of the tests can be long after


async def give(result: object) -> object:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


async def fail(error: Exception) -> DeploymentError:
    """The error that `error` in a room comes back as."""
    with pytest.raises(DeploymentError) as raised:
        await stage.run("whisper", give(error), LONG)
    return raised.value


async def test_a_result_comes_through() -> None:
    assert await stage.run("whisper", give("text"), LONG) == "text"


async def test_work_that_outlasts_the_time_left_is_cancelled_and_named() -> None:
    left = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            left.set()
            raise

    with pytest.raises(DeadlineExceeded, match="ran out during diffusion") as raised:
        await stage.run("diffusion", work(), TimeLeft(0.01))
    assert raised.value.stage == "diffusion"
    assert left.is_set()


async def test_no_time_left_starts_nothing_that_waits() -> None:
    with pytest.raises(DeadlineExceeded):
        await stage.run("whisper", asyncio.sleep(60), TimeLeft(0))


@pytest.mark.parametrize("error", [InvalidInput("no such language"), ModelUnavailable("starting"), DeploymentError("defect")])
async def test_an_error_of_ours_keeps_its_class_and_message_and_gets_its_stage(error: DeploymentError) -> None:
    known = await fail(error)
    assert known is error
    assert known.stage == "whisper"


async def test_a_stage_that_is_already_known_is_kept() -> None:
    error = InvalidInput("x")
    error.stage = "decode"
    assert (await fail(error)).stage == "decode"


async def test_an_error_from_another_process_is_its_cause_without_the_traceback() -> None:
    cause = InvalidInput("no such language")
    remote = RayTaskError("transcribe", "Traceback (most recent call last): ...", cause).as_instanceof_cause()
    known = await fail(remote)
    assert type(known) is InvalidInput
    assert str(known) == "no such language"
    assert known.stage == "whisper"


async def test_another_error_from_another_process_is_a_defect_that_names_it() -> None:
    remote = RayTaskError("transcribe", "Traceback (most recent call last): ...", KeyError("TEXT"))
    known = await fail(remote)
    assert type(known) is DeploymentError
    assert str(known) == "whisper failed: KeyError: 'TEXT'"
    assert known.__cause__ is remote


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), DeadlineExceeded),
        (RayActorError(), ModelUnavailable),
        (ActorDiedError(), ModelUnavailable),
        (DeploymentUnavailableError("whisper"), ModelUnavailable),
        (BackPressureError(16, 16), Overloaded),
        (RuntimeError("x"), DeploymentError),
    ],
)
async def test_what_ray_and_serve_raise_becomes_ours(error: Exception, expected: type[DeploymentError]) -> None:
    known = await fail(error)
    assert type(known) is expected
    assert known.stage == "whisper"
    assert "whisper" in str(known)
    assert known.__cause__ is error


async def test_a_cancelled_caller_cancels_the_work_and_stays_cancelled() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    caller = asyncio.create_task(stage.run("whisper", work(), LONG))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert cancelled.is_set()


class Answer:
    """A room's answer with its cost."""

    cost = ComputeTime(fixed_s=3.0, unit_s=1.5, units=4, batch_size=3)


class FakeResponse:
    """One call over a handle: waits for `gate`, tells the script but its last, then answers or raises that."""

    def __init__(self, script: list[Any], gate: asyncio.Event) -> None:
        self.script = script
        self.gate = gate
        self.cancelled = 0

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        await self.gate.wait()
        return await give(self.script[-1])

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.script[:-1]:
            yield item
        yield await self._answer()

    def cancel(self) -> None:
        self.cancelled += 1


class FakeHandle:
    """A deployment's handle; each call takes the next script, the last is kept."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.responses: list[FakeResponse] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def options(self, *, stream: bool) -> "FakeHandle":
        assert stream
        return self

    def __getattr__(self, method: str) -> Any:
        outer = self

        class Method:
            def remote(self, *arguments: Any, **more: Any) -> FakeResponse:
                outer.calls.append((method, arguments, more))
                script = outer.scripts.pop(0) if len(outer.scripts) > 1 else outer.scripts[0]
                outer.responses.append(FakeResponse(script, outer.gate))
                return outer.responses[-1]

        return Method()


class Bench:
    """A stage over a fake handle, in a service that is up."""

    def __init__(self, *scripts: list[Any], status: Any = None) -> None:
        self.handle = FakeHandle(*scripts)
        self.told: list[Any] = []
        self.line = Line("id-1")
        self.status = status or serve_status(painter=room_status())
        self.rooms = Rooms("sonograph", ("painter",), lambda: self.status)
        self.stage = Stage("painter", self.handle, Answer, self.rooms, Figures(), AT_ONCE)

    def given(self, seconds: float = 60, listen: bool = False) -> Given:
        return Given(TimeLeft(seconds), self.line, self.told.append if listen else None)

    async def call(self, seconds: float = 60, listen: bool = False, units: int = 4, **more: Any) -> Any:
        given = self.given(seconds, listen)
        return await self.stage.call("paint", "a fox", given=given, key="small", units=units, **more)


async def test_where_nobody_listens_the_room_answers_once() -> None:
    answer = Answer()
    bench = Bench([answer])
    assert await bench.call() is answer
    ((method, (prompt, time_left, request_id), more),) = bench.handle.calls
    assert (method, prompt, request_id, more) == ("paint", "a fox", "id-1", {})
    assert 0 < time_left.seconds <= 60


async def test_where_somebody_listens_the_room_streams_and_the_answer_is_its_last_word() -> None:
    answer = Answer()
    bench = Bench(["a third", "two thirds", answer])
    assert await bench.call(listen=True, previews=2) is answer
    assert bench.told == ["a third", "two thirds"]
    assert [(method, more) for method, _, more in bench.handle.calls] == [("paint_stream", {"previews": 2})]


async def test_a_stream_without_an_answer_is_a_defect() -> None:
    with pytest.raises(DeploymentError, match="ended its stream without an answer") as raised:
        await Bench(["a third"]).call(listen=True)
    assert raised.value.stage == "painter"


@pytest.mark.parametrize("listen", [False, True])
async def test_a_request_is_tried_once_more_after_a_replicas_death(listen: bool) -> None:
    answer = Answer()
    bench = Bench([ActorDiedError()], [answer])
    assert await bench.call(listen=listen) is answer
    assert len(bench.handle.calls) == 2
    assert bench.line.retried == ["painter"]
    assert bench.told == ([Retry("painter")] if listen else [])


async def test_one_that_has_killed_two_replicas_is_not_tried_again() -> None:
    bench = Bench([ActorDiedError()])
    with pytest.raises(ModelUnavailable, match="two replicas") as raised:
        await bench.call()
    assert len(bench.handle.calls) == 2
    assert (raised.value.stage, raised.value.retry_after_s) == ("painter", 5)


@pytest.mark.parametrize("error", [InvalidInput("no"), ModelUnavailable("no"), DeploymentError("no"), RuntimeError("no")])
async def test_an_error_that_is_no_death_is_not_tried_again(error: Exception) -> None:
    bench = Bench([error])
    with pytest.raises(DeploymentError, match="no"):
        await bench.call()
    assert len(bench.handle.calls) == 1


async def test_without_a_replica_a_new_request_is_refused_at_once() -> None:
    bench = Bench([Answer()], status=serve_status(painter=room_status("UPDATING", STARTING=1)))
    await bench.rooms.states()
    with pytest.raises(ModelUnavailable, match="painter is starting"):
        await bench.call()
    assert bench.handle.calls == []


@pytest.mark.parametrize("listen", [False, True])
@pytest.mark.parametrize("by", ["the caller", "the deadline"])
async def test_whoever_ends_it_the_call_over_the_handle_is_cancelled(by: str, listen: bool) -> None:
    bench = Bench(["a third", Answer()])
    bench.handle.gate.clear()
    caller = asyncio.create_task(bench.call(60 if by == "the caller" else 0.5, listen))
    await asyncio.sleep(0.02)
    if by == "the caller":
        caller.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await caller
    assert bench.handle.responses[0].cancelled == 1
    assert bench.stage._gate.running == 0


async def test_what_a_replica_is_not_given_yet_waits_in_the_ingress_and_hears_its_place() -> None:
    bench = Bench([Answer()], status=serve_status(painter=room_status(RUNNING=2)))
    await bench.rooms.states()
    bench.handle.gate.clear()
    callers = [asyncio.create_task(bench.call(listen=True)) for _ in range(2 * AT_ONCE + 3)]
    await asyncio.sleep(0.01)
    assert len(bench.handle.calls) == 2 * AT_ONCE
    assert bench.told == [Queued("painter", 1), Queued("painter", 2), Queued("painter", 3)]
    callers[-2].cancel()
    bench.handle.gate.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(answer, Answer) for answer in answers) == 2 * AT_ONCE + 2
    assert len(bench.handle.calls) == 2 * AT_ONCE + 2, "the one that left was never sent"


async def test_what_cannot_be_done_in_the_time_left_is_refused_before_it_starts() -> None:
    bench = Bench([Answer()])
    for _ in range(20):
        assert await bench.call(2.5)  # a first twenty: of three together each has 1 s, and 0.5 s for each of 4 units
    with pytest.raises(DeadlineUnreachable, match=r"painter takes at least 3\.00 s .* 2\.\d\d s of the request's time are left"):
        await bench.call(2.5)
    assert len(bench.handle.calls) == 20
    assert await bench.call(2.5, units=2), "less fits"
    assert await bench.call(3.5)


async def test_another_kind_of_request_is_not_judged_by_this_one() -> None:
    bench = Bench([Answer()])
    for _ in range(20):
        await bench.call()
    given = bench.given(0.5)
    assert await bench.stage.call("paint", "a fox", given=given, key="large", units=4)
