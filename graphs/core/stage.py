"""A stage: a graph's typed call of one model, through a chain of policies."""

import asyncio
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from deployments.call_spans import Traced
from deployments.concurrency import requests_per_replica
from deployments.errors import DeploymentError
from deployments.model_spec import ModelSettings, ModelSpec, Role
from graphs.core import genai
from graphs.core.context import RequestContext
from graphs.core.errors import translated
from graphs.core.latency import LatencyEstimator
from graphs.core.metrics import Metrics
from graphs.core.policies.deadline import Deadline, Reachable
from graphs.core.policies.policy import Call, Policy, Proceed, chained
from graphs.core.policies.queue import FifoLimiter, Queue
from graphs.core.policies.ready import Ready
from graphs.core.policies.retry import Retry
from graphs.core.policies.rollout import Rollout
from graphs.core.readiness import Readiness
from graphs.tracing.trace import Trace, span

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle  # loads FastAPI


@dataclass(frozen=True)
class Declared:
    """A stage in the body of a graph's class; each object of the class has the stage itself in this attribute."""

    target: Role | ModelSpec
    """A role, which a setting gives to a model, or one certain model."""
    soft: bool = False


class Stage[Request, Result]:
    """One for each model and ingress replica, shared by the graphs; its name is the model's."""

    def __init__(
        self,
        spec: ModelSpec,
        settings: ModelSettings,
        handle: "DeploymentHandle[Any]",
        readiness: Readiness,
        metrics: Metrics,
        label: str | None = None,
    ) -> None:
        """`label`: its name in the metrics, where that is not the model's."""
        self.label = label or spec.name
        self.spec = spec
        self.settings = settings
        self.latency = LatencyEstimator()
        per_replica = requests_per_replica(settings.max_batch)
        self._capacity: Callable[[], int] = lambda: per_replica * readiness.replicas(spec.name)
        self.limiter = FifoLimiter(self._capacity)
        self.rollout = Rollout(self)
        self.records = spec.in_triton
        """Whether its replicas return spans. A stub is a plain class with `run` and `stream`, which knows of none."""
        self._readiness = readiness
        self._metrics = metrics
        # Requests are of modules that both sides import. Ray's own pickle, which takes anything, costs five times as much.
        self._handle: Any = handle.options(request_serialization="pickle")
        self._streaming: Any = self._handle.options(stream=True)
        self._run = self._chain(())
        self._call = chained((self.rollout,), self._measured)

    def with_policies(self, *policies: Policy) -> "Stage[Request, Result]":
        """This stage, with the same queue and estimates, and further policies around each call that has its slot in the queue."""
        extended = copy.copy(self)
        extended._run = extended._chain(policies)
        extended._call = chained((self.rollout,), extended._measured)
        return extended

    def _chain(self, policies: tuple[Policy, ...]) -> Proceed:
        first = (Deadline(), Ready(self._readiness), Queue(self.limiter))
        return chained((*first, *policies, Retry(self._metrics), Reachable(self.latency)), self._send)

    @classmethod
    def of(cls, target: Role | ModelSpec) -> "Stage[Request, Result]":
        """Declare a stage of a graph. Where an optional model is not deployed, the attribute is None."""
        return cast("Stage[Request, Result]", Declared(target))

    @classmethod
    def soft(cls, target: Role | ModelSpec) -> "SoftStage[Request, Result]":
        """Declare a stage that a graph can answer without."""
        return cast("SoftStage[Request, Result]", Declared(target, soft=True))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_busy(self) -> bool:
        """Whether a further request would wait in the queue."""
        return self.limiter.running + self.limiter.waiting >= max(1, self._capacity())

    def typical_s(self) -> float | None:
        return self.latency.typical_s()

    def require_ready(self) -> None:
        """Raise ModelUnavailable, naming this stage, where no replica of the model serves, nor a candidate in its place."""
        if self.rollout.replaces_stable:
            return
        try:
            self._readiness.require(self.name)
        except DeploymentError as error:
            error.stage = self.name
            raise

    async def __call__(self, request: Request, context: RequestContext) -> Result:
        """The model's result. Raises a DeploymentError with `stage` set. Cancelling this cancels the work, down to the model."""
        answer: Result = await self._call(Call(self.name, request, self.spec.workload(request, self.settings), context))
        return answer

    async def _measured(self, call: Call) -> Any:
        started_s = time.perf_counter()
        trace = call.context.trace
        words = trace is not None and trace.words
        with span(trace, self.label) as own:
            if own is not None:
                own.attributes |= genai.requested(self.spec, self.settings, call.request, words)
            with self._metrics.stage(self.label), translated(self.name):
                result = await self._run(call)
            if own is not None:
                own.attributes |= genai.responded(result, words)
        self._record(call, result, time.perf_counter() - started_s)
        return result

    def _record(self, call: Call, result: Any, took_s: float) -> None:
        time_ = result.compute_time
        # A request in a batch takes no longer than it would alone, times the batch: its share is the least, and sets the rate.
        self.latency.record(call.workload.key, time_.fixed_s / time_.batch_size, time_.unit_s / time_.batch_size, time_.units)
        self._metrics.finished(self.label, time_.total_s, max(0.0, took_s - time_.total_s), time_.batch_size)
        parts_ms: dict[str, float] = getattr(result, "breakdown_ms", {})
        call.context.took(**{self.name: took_s * 1000 - sum(parts_ms.values()), **parts_ms})
        call.context.models[self.name] = result.model

    async def _send(self, call: Call) -> Any:
        """One call of a replica."""
        with span(call.context.trace, f"call {self.label}", "client", **{"sonograph.deployment": self.name}):
            return await self._answered(call)

    async def _answered(self, call: Call) -> Any:
        """The replica's result: answered once, or as a stream where a client follows the progress."""
        trace = call.context.trace if self.records else None
        arguments = (call.request, call.context.time_left, call.context.id, *(() if trace is None else trace.context()))
        if call.context.emit is None:
            method = self._handle.run if trace is None else self._handle.run_traced
            response = method.remote(*arguments)
            try:
                return _untraced(trace, await response)
            except asyncio.CancelledError:
                response.cancel()
                raise
        result: Any = None
        responses = (self._streaming.stream if trace is None else self._streaming.stream_traced).remote(*arguments)
        try:
            async for response in responses:
                if isinstance(response, Traced):
                    _untraced(trace, response)
                    break
                if isinstance(response, self.spec.result):
                    result = response
                    if trace is None:
                        break
                else:
                    call.context.report(response)
        finally:
            responses.cancel()
        if result is None:
            raise DeploymentError(f"{self.name} ended its stream without a result")
        return result


def _untraced(trace: Trace | None, response: Any) -> Any:
    """The result alone: its spans become the trace's."""
    if trace is None or not isinstance(response, Traced):
        return response
    trace.add(response.spans)
    return response.result


class SoftStage[Request, Result]:
    """A stage whose failure only degrades the answer; nor need its model be deployed."""

    def __init__(self, stage: Stage[Request, Result] | None) -> None:
        self.stage = stage
        """None where the model is not deployed."""

    async def __call__(self, request: Request, context: RequestContext, otherwise: Result) -> Result:
        """The model's result, or `otherwise`: where the stage failed, the answer names it, and the reason."""
        if self.stage is None:
            return otherwise
        try:
            return await self.stage(request, context)
        except DeploymentError as error:
            context.degraded[self.stage.name] = f"{error.code}: {error}"
            return otherwise
