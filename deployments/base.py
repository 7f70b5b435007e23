"""The base of every model's Serve class: one contract for graphs, health checks, and an orderly end."""

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application

from deployments.call_spans import Traced, recorded
from deployments.concurrency import declared_cpus, max_ongoing_requests
from deployments.engine_config import to_parameters
from deployments.model_spec import ModelSettings, ModelSpec
from deployments.time_left import TimeLeft
from deployments.triton.health import StubDied
from deployments.triton.metrics import TritonMetrics
from deployments.triton.server import InProcessTriton, Tensors, Triton


class ModelDeployment[Settings: ModelSettings, Request, Result](ABC):
    """A replica is one Triton server and one copy of the weights. It ends when the process that holds them dies.

    Requests in flight then fail with Ray's own error for a dead replica, and Serve starts a new one.
    A graph calls `run`, or `stream` where a client follows the progress; both end the work in the model when they are cancelled.
    """

    def __init__(self, settings: Settings, triton: Triton | None = None, end: Callable[[], None] = lambda: os._exit(1)) -> None:
        """`triton`: by default a server of the repository beside the class's module, started here."""
        self.settings = settings
        self._triton = triton or self._start()
        self._end = end
        self._metrics = TritonMetrics()
        self._cpu_s = self._triton.cpu_s()

    @abstractmethod
    def engine_config(self, threads: int) -> Any:
        """The engine's configuration, a frozen dataclass. `threads`: the CPUs that the replica declares."""

    @abstractmethod
    def warm_up(self) -> Tensors:
        """Inputs of one real inference, which ends before the replica counts as ready."""

    def probe(self) -> Tensors:
        """Inputs of the health check's inference, to which the model responds at once."""
        return self.warm_up()

    def _start(self) -> InProcessTriton:
        return InProcessTriton(
            Path(inspect.getfile(type(self))).with_name("repository"),
            to_parameters(self.engine_config(declared_cpus())),
            self.warm_up(),
            self.probe(),
            self.settings.stall_s,
            self.settings.max_batch,
        )

    @abstractmethod
    async def run(self, request: Request, time_left: TimeLeft, request_id: str = "") -> Result:
        """Compute the result. Raises a DeploymentError."""

    async def stream(self, request: Request, time_left: TimeLeft, request_id: str = "") -> AsyncGenerator[Any | Result]:
        """Yield progress, where the model reports any, then the result. Raises a DeploymentError."""
        yield await self.run(request, time_left, request_id)

    async def run_traced(
        self, request: Request, time_left: TimeLeft, request_id: str, traceparent: str, tracestate: str = ""
    ) -> Traced[Result]:
        """The result of `run`, and its spans. Raises what `run` raises; its spans are then lost."""
        with recorded(type(self).__name__, traceparent, tracestate) as call:
            result = await self.run(request, time_left, request_id)
        return Traced(result, call.spans)

    async def stream_traced(
        self, request: Request, time_left: TimeLeft, request_id: str, traceparent: str, tracestate: str = ""
    ) -> AsyncGenerator[Any | Result | Traced[None]]:
        """Yield what `stream` yields, then the spans."""
        with recorded(type(self).__name__, traceparent, tracestate) as call:
            async with aclosing(self.stream(request, time_left, request_id)) as responses:
                async for response in responses:
                    yield response
        yield Traced(None, call.spans)

    async def infer(self, inputs: Tensors, time_left: TimeLeft, request_id: str) -> Tensors:
        """Run the Triton model for one response."""
        try:
            return await self._triton.infer(inputs, time_left, request_id)
        except StubDied:
            self._end()
            raise

    async def infer_stream(self, inputs: Tensors, time_left: TimeLeft, request_id: str) -> AsyncGenerator[Tensors]:
        """Run the Triton model, and yield each response as it arrives."""
        try:
            async with aclosing(self._triton.stream(inputs, time_left, request_id)) as responses:
                async for response in responses:
                    yield response
        except StubDied:
            self._end()
            raise

    def cpu_s(self) -> float:
        """CPU time of the replica's processes since the last call: for `ComputeTime.cpu_s` of a request that ends now."""
        before_s, self._cpu_s = self._cpu_s, self._triton.cpu_s()
        return max(0.0, self._cpu_s - before_s)

    async def check_health(self) -> None:
        """Raise where the model does not serve; publish Triton's metrics. Serve calls it every `health_check_period_s`."""
        try:
            await self._triton.check()
        except StubDied:
            self._end()
            raise
        self._metrics.publish(self._triton.metrics())

    async def close(self) -> None:
        if hasattr(self, "_triton"):  # a constructor that raised has none
            await self._triton.close()

    async def __del__(self) -> None:
        """Close the server. Serve awaits it once no request is in flight, within `graceful_shutdown_timeout_s`."""
        await self.close()


def bind(spec: ModelSpec, settings: ModelSettings) -> Application:
    """The model as a Serve deployment. One CPU by default; a config or a manifest can set more, or a GPU, and torch's threads follow."""
    return serve.deployment(
        name=spec.name,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=max_ongoing_requests(settings.max_batch),
        health_check_period_s=4,
        health_check_timeout_s=20,
        graceful_shutdown_timeout_s=30,
    )(spec.load()).bind(settings)
