"""What every room's Ray class shares: health, and an orderly end."""

import os
import sys
from pathlib import Path

from deployments.triton import StubGone, Triton


class Room:
    """One replica is one Triton server and one copy of the weights."""

    def __init__(self, triton: Triton) -> None:
        self._triton = triton

    async def check_health(self) -> None:
        """Called by Serve every `health_check_period_s`. A replica whose stub is gone ends at once: Serve replaces it sooner."""
        try:
            await self._triton.check()
        except StubGone:
            os._exit(1)

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


def weights(room: str) -> Path:
    """Where set-up puts a room's weights."""
    return Path(sys.prefix) / "share" / "sonograph" / room


def model_name(model: str) -> str:
    """What a model is called in answers: a path's last part, or the name as it was given."""
    return Path(model).name if model.startswith(("/", ".")) else model
