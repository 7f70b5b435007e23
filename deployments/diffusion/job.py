"""One request's way through the batch: its state, its progress, its outcome and its times."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.compute_time import ComputeTime
from deployments.diffusion.denoising import Decoded, Denoising
from deployments.diffusion.preview import has_preview
from deployments.roles.text_to_image import GenerateRequest, Preview, Step


class JobCancelled(Exception):
    """The caller has disconnected."""

    def __init__(self, steps_saved: int) -> None:
        super().__init__("the caller has disconnected")
        self.steps_saved = steps_saved
        """Denoising steps that will not run."""


@dataclass(eq=False)
class Job:
    """One request, from its arrival to its pixels."""

    request: GenerateRequest
    size: tuple[int, int]
    is_cancelled: Callable[[], bool]
    on_step: Callable[[Step], None] | None
    decoded: asyncio.Future[Decoded] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    started: Denoising | None = None
    """The state between steps; None while the job waits."""
    outcome: Decoded | Exception | None = None
    """Set by the worker thread; the event loop resolves `decoded` by it."""
    preview: Preview | None = None
    """The last step's, until it is reported."""
    arrived_s: float = field(default_factory=time.perf_counter)
    """The clock at its arrival."""
    began_ns: int = 0
    """Unix time at which its computation began, after its wait for a place."""
    first_step_s: float = 0.0
    """The clock at the start of the first step."""
    fixed_s: float = 0.0
    denoise_s: float = 0.0
    batch_sizes: int = 0
    """Sum of the batch sizes of its UNet calls."""

    @property
    def state(self) -> Denoising:
        assert self.started is not None
        return self.started

    @property
    def steps_left(self) -> int:
        return (self.request.steps or 0) if self.started is None else self.started.steps - self.started.step

    def wants_preview(self) -> bool:
        """Whether the step just done has a preview."""
        return self.on_step is not None and has_preview(self.state.step - 1, self.state.steps, self.request.previews)

    def needs_event_loop(self) -> bool:
        """Whether the event loop must act before the next step."""
        ended = self.decoded.done() or self.outcome is not None or self.steps_left == 0
        return ended or self.on_step is not None or self.is_cancelled()

    def resolve(self) -> bool:
        """Resolve `decoded` where the job has ended: finished, failed or cancelled. Return whether it has."""
        if not self.decoded.done():
            if isinstance(self.outcome, Exception):
                self.decoded.set_exception(self.outcome)
            elif self.outcome is not None:
                self.decoded.set_result(self.outcome)
            elif self.is_cancelled():
                self.decoded.set_exception(JobCancelled(self.steps_left))
        return self.decoded.done()

    def compute_time(self, encode_s: float) -> ComputeTime:
        """The compute time of a finished job whose pixels took `encode_s` to encode."""
        steps = self.state.steps
        return ComputeTime(self.fixed_s + encode_s, self.denoise_s / steps, steps, self.batch_sizes / steps)
