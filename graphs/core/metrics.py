"""What a graph counts: Prometheus metrics on Ray's metrics port, by stage. Made in the ingress replica."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.serve.metrics import Counter, Histogram

from deployments.errors import DeploymentError

INGRESS = "ingress"
"""The stage of whole requests, and of errors that are none of a stage's."""
SECONDS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 300)
"""Close together: when Ray adds up `_sum`, it takes each value for the middle of its bucket (as of 2.60)."""
ROWS = tuple(rows + 0.5 for rows in range(17))
"""Halves, so that a bucket's middle is the whole number in it, and `_sum` exact up to 16."""


@dataclass(frozen=True)
class Figure:
    name: str
    meaning: str
    bounds: tuple[float, ...] = ()
    """A histogram's; a counter has none."""
    labels: tuple[str, ...] = ("stage",)
    """Beside Serve's own `deployment`, `replica` and `application`, which Ray reserves and adds."""

    @property
    def exported(self) -> str:
        """As Prometheus reads it. A histogram has `_bucket`, `_sum` and `_count` of it."""
        return f"ray_{self.name}" if self.bounds else f"ray_{self.name}_total"


REQUESTS = Figure("sonograph_requests", "requests that entered the stage")
ERRORS = Figure("sonograph_errors", "requests that failed in the stage, by the problem's code", labels=("stage", "code"))
CANCELLED = Figure("sonograph_cancelled", "requests whose client left during the stage")
RETRIED = Figure("sonograph_retried", "requests that were tried again after a replica's death")
QUEUE = Figure("sonograph_queue_seconds", "time that a request waited for the stage", SECONDS)
COMPUTE = Figure("sonograph_compute_seconds", "time that the stage worked on a request", SECONDS)
BATCH = Figure("sonograph_batch_size", "requests that the model served together", ROWS)
AUDIO = Figure("sonograph_audio_seconds", "seconds of sound that the stage went through")
FIGURES = (REQUESTS, ERRORS, CANCELLED, RETRIED, QUEUE, COMPUTE, BATCH, AUDIO)


class Figures:
    """One for each replica, made inside of it: Serve's labels are taken when it is made.

    Where no Ray runs, in a test, it counts into the void and nothing fails. A call costs 3 to 5 µs for each figure it touches.
    """

    def __init__(self, counter: Callable[..., Any] = Counter, histogram: Callable[..., Any] = Histogram) -> None:
        self._metrics: dict[str, Any] = {}
        for figure in FIGURES:
            if figure.bounds:
                metric = histogram(figure.name, figure.meaning, list(figure.bounds), figure.labels)
            else:
                metric = counter(figure.name, figure.meaning, figure.labels)
            self._metrics[figure.name] = metric

    def started(self, stage: str) -> None:
        """Ends in one of finished, failed and cancelled."""
        self._add(REQUESTS, 1, stage=stage)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Counts a request of the stage, and how it ends where that is not well; `finished` is for who knows what it took."""
        self.started(stage)
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled(stage)
            raise
        except DeploymentError as error:
            self.failed(stage, error.code)
            raise

    def finished(
        self,
        stage: str,
        compute_s: float,
        queue_s: float | None = None,
        batch_size: int | None = None,
        audio_s: float = 0.0,
    ) -> None:
        """`queue_s` and `batch_size`: None where the stage has no queue, or no batches."""
        self._observe(COMPUTE, compute_s, stage)
        if queue_s is not None:
            self._observe(QUEUE, queue_s, stage)
        if batch_size is not None:
            self._observe(BATCH, batch_size, stage)
        self._add(AUDIO, audio_s, stage=stage)

    def failed(self, stage: str, code: str) -> None:
        """`code`: a problem's. What clients send must never become a label."""
        self._add(ERRORS, 1, stage=stage, code=code)

    def cancelled(self, stage: str) -> None:
        self._add(CANCELLED, 1, stage=stage)

    def retried(self, stage: str) -> None:
        self._add(RETRIED, 1, stage=stage)

    def _add(self, figure: Figure, value: float, **labels: str) -> None:
        if value > 0:  # Ray refuses to count nothing, and numbers of numpy
            self._metrics[figure.name].inc(float(value), labels)

    def _observe(self, figure: Figure, value: float, stage: str) -> None:
        self._metrics[figure.name].observe(max(0.0, float(value)), {"stage": stage})
