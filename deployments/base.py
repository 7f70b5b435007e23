"""What every room's Ray class shares: health, and an orderly end."""

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from deployments.time_left import TimeLeft
from deployments.triton.metrics import NvMetrics
from deployments.triton.server import StubGone, Tensors, Triton


class Room:
    """One replica is one Triton server and one copy of the weights. It ends with the process that holds them.

    What was in flight then fails with Ray's own error for a dead replica, and Serve starts a new one.
    """

    def __init__(self, triton: Triton, end: Callable[[], None] = lambda: os._exit(1)) -> None:
        self._triton = triton
        self._end = end
        self._metrics = NvMetrics()

    async def infer(self, inputs: Tensors, time_left: TimeLeft, request_id: str) -> Tensors:
        try:
            return await self._triton.infer(inputs, time_left, request_id)
        except StubGone:
            self._end()
            raise

    async def stream(self, inputs: Tensors, time_left: TimeLeft, request_id: str) -> AsyncGenerator[Tensors]:
        try:
            async with aclosing(self._triton.stream(inputs, time_left, request_id)) as answers:
                async for answer in answers:
                    yield answer
        except StubGone:
            self._end()
            raise

    async def check_health(self) -> None:
        """Called by Serve every `health_check_period_s`."""
        try:
            await self._triton.check()
        except StubGone:
            self._end()
            raise
        self._metrics.mirror(self._triton.metrics())

    async def close(self) -> None:
        if hasattr(self, "_triton"):  # a constructor that raised has none
            await self._triton.close()

    async def __del__(self) -> None:
        """Serve awaits it once nothing is in flight, within `graceful_shutdown_timeout_s`."""
        await self.close()


def threads() -> int:
    """The CPUs that this replica's deployment declares, at least 1; 1 outside of Ray."""
    import ray

    if not ray.is_initialized():
        return 1
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def at_once(batch: int = 1) -> int:
    """Requests that one ingress gives a replica: a batch in work and one that waits, so that the model never waits; 8 at least."""
    return max(8, 2 * batch)


def ongoing_requests(batch: int = 1) -> int:
    """Serve's `max_ongoing_requests` of a replica: what two ingresses give it."""
    return 2 * at_once(batch)


def weights(room: str) -> Path:
    """Where set-up puts a room's weights."""
    return Path(sys.prefix) / "share" / "sonograph" / room


def model_name(model: str) -> str:
    """What a model is called in answers: a path's last part, or the name as it was given."""
    return Path(model).name if model.startswith(("/", ".")) else model


def model_version(room: str) -> str:
    """Triton's of the room's model: of several, Triton loads the latest."""
    repository = Path(__file__).parent / room / "repository" / room
    return str(max(int(folder.name) for folder in repository.iterdir() if folder.name.isdecimal()))
