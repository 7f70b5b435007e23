"""The compute time of a request, which a model returns with its answer and `graphs.core.latency` estimates from."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ComputeTime:
    """Time in the model, without queues. In a batch, both times are the whole batch's, not the request's share of it."""

    fixed_s: float = 0.0
    """Time that does not depend on the units, such as the encoding of a prompt and of an image."""
    unit_s: float = 0.0
    """Time of each unit: a denoising step, or one of Whisper's windows of 30 s."""
    units: int = 1
    batch_size: float = 1.0
    """Requests in the batch, on average."""
    cpu_s: float = 0.0
    """CPU time of the replica's processes since the request before it ended: its mean is a request's cost."""

    @property
    def total_s(self) -> float:
        return self.fixed_s + self.units * self.unit_s


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Base of every model's result."""

    model: str = ""
    """The model's name in answers; set by the deployment, as `compute_time` is."""
    compute_time: ComputeTime = field(default_factory=ComputeTime)
