"""One call of one room from a graph: what is left of the deadline bounds it, and whatever goes wrong comes back as ours."""

import asyncio
from collections.abc import Awaitable

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import DeadlineExceeded, DeploymentError, ModelUnavailable, Overloaded
from deployments.time_left import TimeLeft


async def run[Result](stage: str, work: Awaitable[Result], time_left: TimeLeft) -> Result:
    """Awaits `work` and raises a DeploymentError with `stage` set. Cancelling this cancels the work, down to the model."""
    try:
        async with asyncio.timeout(time_left.seconds):
            return await work
    except asyncio.CancelledError:
        raise
    except Exception as error:
        known = _translate(stage, error)
        known.stage = known.stage or stage
        if known is error:
            raise
        raise known from error


def _translate(stage: str, error: Exception) -> DeploymentError:
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, DeploymentError):
        return cause
    if isinstance(cause, TimeoutError):
        return DeadlineExceeded(f"the request's time ran out during {stage}: send a shorter recording, or ask for fewer steps")
    if isinstance(cause, BackPressureError):
        return Overloaded(f"{stage} has more requests than it takes: try again shortly")
    if isinstance(cause, (RayActorError, DeploymentUnavailableError)):
        return ModelUnavailable(f"the replica that ran {stage} is gone, and a new one is being started: try again shortly")
    return DeploymentError(f"{stage} failed: {type(cause).__name__}: {cause}")
