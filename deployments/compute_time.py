"""What an answer cost in its model, told with the answer: the graph learns from it how long the next will take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Queues are not in it. Times are those of whole batches: what a request in them takes, not its share of the machine."""

    fixed_s: float
    """Independent of the units, such as encoding a prompt and a picture."""
    unit_s: float
    """For each unit: a denoising step, or one of Whisper's windows of 30 s."""
    units: int
    batch_size: float = 1.0
    """Requests that were computed together, on average."""

    @property
    def compute_s(self) -> float:
        return self.fixed_s + self.units * self.unit_s
