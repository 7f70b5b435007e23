"""The time that a model computed for a request, which it returns with the result: `graphs.core.latency` estimates from it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ComputeTime:
    """Without time in queues. Of a batch, both times are those of the whole batch, not a request's share of it."""

    fixed_s: float = 0.0
    """Independent of the units, such as encoding a prompt and a picture."""
    unit_s: float = 0.0
    """For each unit: a denoising step, or one of Whisper's windows of 30 s."""
    units: int = 1
    batch_size: float = 1.0
    """Requests that were computed together, on average."""

    @property
    def total_s(self) -> float:
        return self.fixed_s + self.units * self.unit_s
