"""A call ends with its request's deadline, and is not sent where it cannot end in time."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from deployments.errors import DeadlineExceeded, DeadlineUnreachable
from deployments.time_left import TimeLeft
from graphs.core.latency import LatencyEstimator
from graphs.core.policies.policy import Call, Proceed


async def within[Result](stage: str, work: Awaitable[Result], time_left: TimeLeft) -> Result:
    """Await `work` and cancel it when the request's time is over. Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(time_left.seconds):
            return await work
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the request's time ran out during {stage}: allow more time (timeout_ms, or setting http.deadline_s), or ask for less"
        ) from error


class Deadline:
    """Policy that cancels the call, its wait in the queue included, when the request's time is over."""

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        return await within(call.stage, proceed(call), call.context.time_left)


class Reachable:
    """Policy that refuses a call that would take longer than the time that is left, so that no model works in vain."""

    def __init__(self, latency: LatencyEstimator) -> None:
        self._latency = latency

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        least_s = self._latency.at_least_s(call.workload.key, call.workload.units)
        left_s = call.context.time_left.seconds
        if least_s is not None and least_s > left_s:
            raise DeadlineUnreachable(
                f"{call.stage} takes at least {least_s:.2f} s for this (the 10th percentile of what was measured), and "
                f"{left_s:.2f} s of the request's time are left: allow more, or ask for less"
            )
        return await proceed(call)
