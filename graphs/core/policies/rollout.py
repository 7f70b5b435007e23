"""A stage with a candidate: the choice of the model that answers, the candidate's failures, and mirrored requests."""

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from deployments.errors import DeploymentError, ModelUnavailable
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.core.policies.policy import Call, Proceed
from graphs.core.progress import Retry

Variant = Literal["stable", "candidate"]
MIRRORS = 16
"""Mirrored requests of a stage at once, in one ingress replica, those whose client still waits too; each holds its request and a result."""
LEAVES_S = 0.02
"""Time in which Serve's replica passes an answer's last bytes on, before a mirrored request takes this process's time."""
LEAST_PART = 0.5
"""Of a request's time, the candidate's part where nothing is known of the stable model's time."""
STABLE_TIMES = 3.0
"""Typical times of the stable model that are kept for it, in case that the candidate fails."""
LEAST_KEPT_S = 1.0
"""Least time that is kept for it, as long as the candidate has LEAST_PART: a typical time is the model's alone, without Serve's."""
MOST_TIMES, MOST_MORE_S = 20.0, 5.0
"""Longest time of a candidate: so many typical times of the stable model, and so many seconds more for its queue."""
LOOK_S = 0.5
"""Time between two looks whether the candidate, which a request waits for, still serves."""


class Model(Protocol):
    """A stage of the one or the other model."""

    async def __call__(self, request: Any, context: RequestContext) -> Any: ...

    def require_ready(self) -> None:
        """Raise ModelUnavailable where no replica serves."""

    @property
    def is_busy(self) -> bool:
        """Whether a further request would wait."""

    def typical_s(self) -> float | None:
        """Typical time of a request; None before the first."""


@dataclass(frozen=True)
class Outcome:
    """One call's end."""

    variant: Variant
    took_s: float
    result: Any = None
    error: DeploymentError | None = None


class Recorder(Protocol):
    """Receiver of what the policy sees. Its methods return at once."""

    def finished(self, outcome: Outcome) -> None:
        """One call that a client waited for, or a mirrored one."""

    def fell_back(self, code: str) -> None:
        """The stable model answered where the candidate failed."""

    def mirrored(self, request: Any, stable: Outcome, candidate: Outcome) -> Awaitable[None]:
        """Compare both results of one request."""

    def dropped(self) -> None:
        """A request that was to be mirrored, and is not, since the models are busy."""


@dataclass
class Split:
    """The candidate's shares, as they stand in the newest revision."""

    id: str
    """The rollout's; the sticky choice depends on it."""
    share: float
    """Percent, as `mirror`."""
    mirror: float
    candidate: Model
    recorder: Recorder
    check: Callable[[Any], None]
    """Function that raises ValueError for a result of another shape than the stage's."""
    mirror_s: float
    """Longest time of a mirrored request."""
    mirrors: set[asyncio.Task[None]] = field(default_factory=set)

    def chooses(self, context: RequestContext) -> bool:
        """Whether the request is the candidate's: the same answer for the same key, or else the same request id."""
        return position(f"{self.id} {context.key or context.id}") < self.share


class Rollout:
    """Policy around a stage's whole call. Without a split it adds one comparison."""

    def __init__(self, stable: Model) -> None:
        self._stable = stable
        self.split: Split | None = None

    @property
    def replaces_stable(self) -> bool:
        """Whether the candidate answers every request, so that the stable model need not serve."""
        if self.split is None or self.split.share < 100:
            return False
        try:
            self.split.candidate.require_ready()
        except DeploymentError:
            return False
        return True

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        split = self.split
        forced = None if split is None else call.context.variants.get(call.stage)
        if split is None or forced == "stable":
            return await proceed(call)
        if forced == "candidate":
            return _checked(split, await split.candidate(call.request, call.context))
        tried = await self._try(split, call) if split.chooses(call.context) else None
        failed = tried is not None and tried.error is not None
        answered = await self._run_stable(split, call, proceed, tried) if tried is None or failed else tried
        split.recorder.finished(answered)
        if not failed and random.random() * 100 < split.mirror:
            self._mirror(split, call, answered)
        return answered.result

    async def _try(self, split: Split, call: Call) -> Outcome | None:
        """The candidate's outcome, within a part of the request's time; None where it does not serve."""
        try:
            split.candidate.require_ready()
        except DeploymentError:
            return None
        context = replace(call.context, time_left=TimeLeft(self._part_s(call.context.time_left.seconds)))
        return await _outcome(split, "candidate", self._while_serving(split, split.candidate(call.request, context)))

    def _part_s(self, left_s: float) -> float:
        """The candidate's part of the request's time."""
        typical_s = self._stable.typical_s()
        if typical_s is None:
            return left_s * LEAST_PART
        kept_s = max(LEAST_KEPT_S, STABLE_TIMES * typical_s)
        return min(max(left_s - kept_s, left_s * LEAST_PART), MOST_TIMES * typical_s + MOST_MORE_S)

    async def _while_serving(self, split: Split, call: Awaitable[Any]) -> Any:
        """The candidate's result. Raises ModelUnavailable once no replica of it serves, or its rollout has ended.

        Serve would let the call wait for a new replica as long as the request's time allows.
        """
        task = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S))[0]:
                split.candidate.require_ready()
                if self.split is None or self.split.id != split.id:
                    raise ModelUnavailable("the candidate's rollout has ended")
            return await task
        finally:
            task.cancel()

    async def _run_stable(self, split: Split, call: Call, proceed: Proceed, failed: Outcome | None) -> Outcome:
        """The stable model's outcome, after the candidate's failure if there is one: that counts once this one succeeds."""
        if self._stable.is_busy:  # a client's request goes before mirrored ones
            for task in split.mirrors:
                task.cancel()
        if failed is not None:
            call.context.report(Retry(call.stage))
        started_s = time.perf_counter()
        answered = Outcome("stable", 0.0, await proceed(call))
        if failed is not None and failed.error is not None:
            split.recorder.finished(failed)
            split.recorder.fell_back(failed.error.code)
        return replace(answered, took_s=time.perf_counter() - started_s)

    def _mirror(self, split: Split, call: Call, answered: Outcome) -> None:
        other = self._stable if answered.variant == "candidate" else split.candidate
        if len(split.mirrors) >= MIRRORS:
            split.recorder.dropped()
            return
        task = asyncio.create_task(self._compute_again(split, other, call, answered))
        split.mirrors.add(task)
        task.add_done_callback(split.mirrors.discard)

    async def _compute_again(self, split: Split, other: Model, call: Call, answered: Outcome) -> None:
        """Send the answered request to the other model, after its client has its answer, and within a time of its own."""
        variant: Variant = "stable" if answered.variant == "candidate" else "candidate"
        try:
            if call.context.ended is not None:
                await call.context.ended.wait()
                await asyncio.sleep(LEAVES_S)
            if self._stable.is_busy or other.is_busy:
                return split.recorder.dropped()
            other.require_ready()
            outcome = await _outcome(split, variant, _again(split, other, call))
        except DeploymentError:  # it does not serve
            return split.recorder.dropped()
        except asyncio.CancelledError:
            split.recorder.dropped()
            raise
        split.recorder.finished(outcome)
        if outcome.error is None:
            both = (answered, outcome) if variant == "candidate" else (outcome, answered)
            await split.recorder.mirrored(call.request, *both)


async def _again(split: Split, other: Model, call: Call) -> Any:
    """The other model's result, with a time and a trace of its own."""
    of = call.context.trace
    with nullcontext() if of is None else of.mirror(f"mirror {call.stage}") as trace:
        context = RequestContext(call.context.id, TimeLeft(split.mirror_s), variants={call.stage: "stable"}, trace=trace)
        return await other(call.request, context)


async def _outcome(split: Split, variant: Variant, call: Awaitable[Any]) -> Outcome:
    started_s = time.perf_counter()
    try:
        result = await call
        if variant == "candidate":
            _checked(split, result)
    except DeploymentError as error:
        return Outcome(variant, time.perf_counter() - started_s, error=error)
    except Exception as error:  # a result of another class has not even the fields that its stage reads
        wrong = WrongShape(f"the candidate's result cannot be read: {type(error).__name__}: {error}")
        return Outcome(variant, time.perf_counter() - started_s, error=wrong)
    return Outcome(variant, time.perf_counter() - started_s, result)


class WrongShape(DeploymentError):
    """The candidate's result is not one of the stage's; no client sees it."""

    code = "wrong_shape"
    title = "Result of another shape"


def _checked(split: Split, result: Any) -> Any:
    try:
        split.check(result)
    except ValueError as error:
        raise WrongShape(f"the candidate's result cannot stand for the stable model's: {error}") from error
    return result


def position(text: str) -> float:
    """A number from 0 up to 100 that the text alone decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32 * 100
