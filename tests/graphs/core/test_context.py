"""Fan-out, soft stages and branches: times, progress and errors of work side by side."""

import asyncio
from typing import Any

import pytest

from deployments.errors import DeploymentError, InvalidInput, ModelUnavailable
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext, fan_out, soft
from graphs.core.progress import OfBranch, Queued


def context(emit: Any = None) -> RequestContext:
    return RequestContext("id-1", TimeLeft(60), emit)


async def test_branches_run_at_once_and_a_stages_time_is_that_of_the_slowest() -> None:
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


async def test_the_first_error_of_a_fan_out_is_raised_itself_and_the_others_are_cancelled() -> None:
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


async def test_a_soft_stage_that_fails_gives_the_other_result_and_the_context_names_it() -> None:
    async def work() -> str:
        raise ModelUnavailable("upscale is starting")

    one = context()
    assert await soft(one, "upscale", work(), "small") == "small"
    assert one.degraded == {"upscale": "model_unavailable: upscale is starting"}


@pytest.mark.parametrize("error", [RuntimeError("defect"), asyncio.CancelledError()])
async def test_a_soft_stage_hides_neither_a_defect_nor_a_cancellation(error: BaseException) -> None:
    async def work() -> str:
        raise error

    with pytest.raises(type(error)):
        await soft(context(), "upscale", work(), "small")


async def test_a_soft_stage_that_works_changes_nothing() -> None:
    async def work() -> str:
        return "large"

    one = context()
    assert await soft(one, "upscale", work(), "small") == "large"
    assert one.degraded == {}
    assert issubclass(ModelUnavailable, DeploymentError)
