"""Fan-out, soft stages and branches: times, progress and errors of concurrent work."""

import asyncio
from typing import Any, cast

import pytest

from deployments.diffusion.spec import SPEC as DIFFUSION
from deployments.errors import InvalidInput, ModelUnavailable
from deployments.time_left import TimeLeft
from deployments.whisper.spec import SPEC as WHISPER
from graphs.core.context import RequestContext, fan_out
from graphs.core.progress import OfBranch, Queued
from graphs.core.stage import SoftStage, Stage
from graphs.voice_to_text import ListenParameters, VoiceToText
from testing.fakes import FakeStage, image


def context(emit: Any = None) -> RequestContext:
    return RequestContext("id-1", TimeLeft(60), emit)


async def test_branches_run_concurrently_and_a_stages_time_is_that_of_the_slowest() -> None:
    together = asyncio.Barrier(2)

    def branch(ms: float, result: str) -> Any:
        async def run(own: RequestContext) -> str:
            await together.wait()
            own.took(paint=ms)
            return result

        return run

    one = context()
    one.took(decode=1.0)
    assert await fan_out(one, {"left": branch(3.0, "l"), "right": branch(5.0, "r")}) == {"left": "l", "right": "r"}
    assert one.timings_ms == {"decode": 1.0, "paint": 5.0}


async def test_progress_of_a_branch_carries_its_name() -> None:
    seen: list[Any] = []

    async def run(own: RequestContext) -> None:
        own.report(Queued("paint", 1))

    await fan_out(context(seen.append), {"left": run})
    assert seen == [OfBranch("left", Queued("paint", 1))]
    assert list(seen[0].events()) == [("queued", {"stage": "paint", "position": 1, "branch": "left"})]


async def test_the_first_error_of_a_fan_out_is_raised_unchanged_and_the_other_branches_are_cancelled() -> None:
    cancelled = asyncio.Event()

    async def fails(own: RequestContext) -> None:
        await asyncio.sleep(0.01)
        raise InvalidInput("no such colour")

    async def waits(own: RequestContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with pytest.raises(InvalidInput, match="no such colour"):
        await fan_out(context(), {"left": fails, "right": waits})
    assert cancelled.is_set()


async def test_a_cancelled_fan_out_cancels_its_branches_and_stays_cancelled() -> None:
    cancelled = asyncio.Event()

    async def waits(own: RequestContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    task = asyncio.create_task(fan_out(context(), {"one": waits}))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


def stage(result: Any) -> Any:
    return FakeStage(DIFFUSION, result)


async def test_a_failing_soft_stage_returns_the_fallback_and_is_named_in_the_context() -> None:
    soft, one, small = SoftStage(stage(ModelUnavailable("diffusion is starting"))), context(), image()
    assert await soft(None, one, otherwise=small) is small
    assert one.degraded == {"diffusion": "model_unavailable: diffusion is starting"}


@pytest.mark.parametrize("error", [RuntimeError("defect"), asyncio.CancelledError()])
async def test_a_soft_stage_hides_neither_a_defect_nor_a_cancellation(error: BaseException) -> None:
    async def fails(request: Any, context: RequestContext) -> Any:
        raise error

    with pytest.raises(type(error)):
        await SoftStage(cast(Any, fails))(None, context(), otherwise=image())


async def test_a_soft_stage_that_succeeds_changes_nothing() -> None:
    one, large = context(), image(b"large")
    assert await SoftStage(stage(large))(None, one, otherwise=image()) is large
    assert one.degraded == {}


async def test_a_soft_stage_without_a_deployed_model_returns_the_fallback() -> None:
    one, small = context(), image()
    assert await SoftStage(None)(None, one, otherwise=small) is small
    assert one.degraded == {}


class Both(VoiceToText):
    """Graph with a required stage and a soft one."""

    transcribe = Stage[Any, Any].of(WHISPER)
    upscale = Stage[Any, Any].soft(DIFFUSION)


def test_a_request_needs_the_stages_that_are_not_soft() -> None:
    hard, soft = stage(None), stage(None)
    graph = Both(transcribe=hard, upscale=soft)
    assert Both.stages == {"transcribe": WHISPER, "upscale": DIFFUSION}
    assert graph.required(ListenParameters()) == [hard]
    assert [spec.name for spec in graph.models] == ["diffusion", "diffusion"]
    assert graph.required_models() == ["diffusion"]
    assert [spec.name for spec in Both(transcribe=hard).models] == ["diffusion"]
