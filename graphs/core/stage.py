"""A stage of a graph: one room as the graph calls it. It waits its turn, keeps to the deadline, and outlives a replica's death."""

import asyncio
import time
from collections.abc import Awaitable, Hashable
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.errors import DeadlineExceeded, DeadlineUnreachable, DeploymentError, ModelUnavailable, Overloaded
from deployments.time_left import TimeLeft
from graphs.core.context import Given
from graphs.core.latency import Pace
from graphs.core.metrics import Figures
from graphs.core.queue import Gate
from graphs.core.readiness import Rooms
from graphs.http.events import Queued, Retry


class Stage:
    """One for each room and ingress replica."""

    def __init__(
        self, name: str, handle: DeploymentHandle[Any], result: type, rooms: Rooms, figures: Figures, at_once: int
    ) -> None:
        """`result`: what the room answers with; whatever else a stream of it carries is progress.

        `at_once`: requests that one replica is given; the rest wait here, where they are counted and can be told their place.
        """
        self.name = name
        self.pace = Pace()
        self._handle = handle
        self._streaming = handle.options(stream=True)
        self._result = result
        self._rooms = rooms
        self._figures = figures
        self._gate = Gate(lambda: at_once * rooms.replicas(name))

    @property
    def queue(self) -> tuple[int, int]:
        """Requests of this ingress replica that wait, and that the room works on."""
        return self._gate.waiting, self._gate.running

    async def call(self, method: str, *arguments: Any, given: Given, key: Hashable, units: int, previews: int = 0) -> Any:
        """The room's answer. `key` and `units`: what the time it takes depends on, see Pace.

        Raises a DeploymentError with `stage` set. Cancelling this cancels the work, down to the model.
        """
        entered_s = time.perf_counter()
        with self._figures.stage(self.name):
            result = await run(self.name, self._in_turn(method, arguments, given, key, units, previews), given.time_left)
        cost = result.cost
        # In a batch it took no longer than alone times the others: its share is the least that it takes, and sets the rate.
        self.pace.add(key, cost.fixed_s / cost.batch_size, cost.unit_s / cost.batch_size, cost.units)
        took_s = time.perf_counter() - entered_s
        self._figures.finished(self.name, cost.compute_s, max(0.0, took_s - cost.compute_s), cost.batch_size)
        return result

    async def _in_turn(
        self, method: str, arguments: tuple[Any, ...], given: Given, key: Hashable, units: int, previews: int
    ) -> Any:
        self._rooms.require(self.name)
        tell = given.tell or (lambda event: None)
        async with self._gate.slot(lambda place: tell(Queued(self.name, place))):
            self._refuse_what_cannot_fit(given, key, units)
            try:
                return await self._once(method, arguments, given, previews)
            except Exception as error:
                if not _replica_died(error):
                    raise
            # Pure functions of their inputs may run again. The call waits for a replica as long as the request's time allows.
            self._refuse_what_cannot_fit(given, key, units)
            self._figures.retried(self.name)
            given.line.retried.append(self.name)
            tell(Retry(self.name))
            try:
                return await self._once(method, arguments, given, previews)
            except Exception as error:
                if not _replica_died(error):
                    raise
                raise ModelUnavailable(
                    f"two replicas that ran {self.name} for this request have died: it is not tried again"
                ) from error

    async def _once(self, method: str, arguments: tuple[Any, ...], given: Given, previews: int) -> Any:
        arguments = (*arguments, given.time_left, given.line.request_id)
        if given.tell is None:
            answer = getattr(self._handle, method).remote(*arguments)
            try:
                return await answer
            except asyncio.CancelledError:
                answer.cancel()
                raise
        more = {"previews": previews} if previews else {}
        answers = getattr(self._streaming, f"{method}_stream").remote(*arguments, **more)
        try:
            async for answer in answers:
                if isinstance(answer, self._result):
                    return answer
                given.tell(answer)
        finally:
            answers.cancel()
        raise DeploymentError(f"{self.name} ended its stream without an answer")

    def _refuse_what_cannot_fit(self, given: Given, key: Hashable, units: int) -> None:
        least_s, left_s = self.pace.at_least_s(key, units), given.time_left.seconds
        if least_s is not None and least_s > left_s:
            raise DeadlineUnreachable(
                f"{self.name} takes at least {least_s:.2f} s for this (the 10th percentile of what was measured), and "
                f"{left_s:.2f} s of the request's time are left: allow more, or ask for less"
            )


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


def _cause(error: Exception) -> Exception:
    cause: Exception = error.cause if isinstance(error, RayTaskError) else error
    return cause


def _replica_died(error: Exception) -> bool:
    return isinstance(_cause(error), RayActorError)


def _translate(stage: str, error: Exception) -> DeploymentError:
    cause = _cause(error)
    if isinstance(cause, DeploymentError):
        return cause
    if isinstance(cause, TimeoutError):
        return DeadlineExceeded(f"the request's time ran out during {stage}: send a shorter recording, or ask for fewer steps")
    if isinstance(cause, BackPressureError):
        return Overloaded(f"{stage} has more requests than it takes: try again shortly")
    if isinstance(cause, (RayActorError, DeploymentUnavailableError)):
        return ModelUnavailable(f"the replica that ran {stage} is gone, and a new one is being started: try again shortly")
    return DeploymentError(f"{stage} failed: {type(cause).__name__}: {cause}")
