"""One call of one room: bounded by the deadline, and whatever goes wrong comes back as ours, with its stage."""

import asyncio

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable, Overloaded
from deployments.time_left import TimeLeft
from graphs import stages

LONG = TimeLeft(3600)  # counts from the import, which a whole run of the tests can be long after


async def give(result: object) -> object:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


async def fail(error: Exception) -> DeploymentError:
    """The error that `error` in a room comes back as."""
    with pytest.raises(DeploymentError) as raised:
        await stages.run("whisper", give(error), LONG)
    return raised.value


async def test_a_result_comes_through() -> None:
    assert await stages.run("whisper", give("text"), LONG) == "text"


async def test_work_that_outlasts_the_time_left_is_cancelled_and_named() -> None:
    left = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            left.set()
            raise

    with pytest.raises(DeadlineExceeded, match="ran out during diffusion") as raised:
        await stages.run("diffusion", work(), TimeLeft(0.01))
    assert raised.value.stage == "diffusion"
    assert left.is_set()


async def test_no_time_left_starts_nothing_that_waits() -> None:
    with pytest.raises(DeadlineExceeded):
        await stages.run("whisper", asyncio.sleep(60), TimeLeft(0))


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

    caller = asyncio.create_task(stages.run("whisper", work(), LONG))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert cancelled.is_set()
