"""The ingress's Prometheus metrics, by stage, on Ray's metrics port."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deployments.errors import DeadlineExceeded, DeadlineUnreachable, DeploymentError, ModelUnavailable, Overloaded
from deployments.zero import begin

INGRESS = "ingress"
"""The label `stage` of whole requests, and of errors outside of any stage."""
SECONDS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 300)
"""Close together, for quantiles; and Ray computes `_sum` as if each value were the middle of its bucket (as of 2.60)."""
BATCH_SIZES = tuple(size + 0.5 for size in range(17))
"""Halves, so that the middle of a bucket is the whole number in it, and `_sum` exact up to 16."""


@dataclass(frozen=True)
class Metric:
    name: str
    meaning: str
    bounds: tuple[float, ...] = ()
    """A histogram's bucket bounds; others have none."""
    labels: tuple[str, ...] = ("stage",)
    """Beside Serve's own `deployment`, `replica` and `application`, which Ray reserves and adds."""
    is_gauge: bool = False
    exact: tuple[str, str] = ("", "")
    """Names of a histogram's counters: of the sum of what it observed, and of its observations. Neither is its name with a suffix:
    Ray's exporter has `_sum` and `_count` there, and estimates the sum."""

    @property
    def exported(self) -> str:
        """The name that Prometheus reads. A histogram has `_bucket`, `_sum` and `_count` of it."""
        return f"ray_{self.name}" if self.bounds or self.is_gauge else f"ray_{self.name}_total"

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in Prometheus."""
        return tuple(f"{self.exported}_{part}" for part in ("bucket", "sum", "count")) if self.bounds else (self.exported,)

    @property
    def counters(self) -> tuple["Metric", ...]:
        """The exact counters beside a histogram: of the sum, and of the observations."""
        if not self.bounds:
            return ()
        total, observations = self.exact
        return (
            Metric(total, f"exact sum of what `{self.exported}` observed", labels=self.labels),
            Metric(observations, f"number of observations of `{self.exported}`", labels=self.labels),
        )


REQUESTS = Metric("sonograph_requests", "requests that entered the stage")
ERRORS = Metric("sonograph_errors", "requests that failed in the stage, by the problem's code", labels=("stage", "code"))
CANCELLATIONS = Metric("sonograph_cancellations", "requests whose client disconnected during the stage")
RETRIES = Metric("sonograph_retries", "requests retried after a replica's death")
REQUEST_DURATION = Metric(
    "sonograph_request_duration_seconds",
    "time of a request that was answered, or that ended at its deadline",
    SECONDS,
    exact=("sonograph_request_seconds", "sonograph_request_observations"),
)
QUEUE_DURATION = Metric(
    "sonograph_queue_duration_seconds",
    "time in the stage's queue",
    SECONDS,
    exact=("sonograph_queue_seconds", "sonograph_queue_observations"),
)
COMPUTE_DURATION = Metric(
    "sonograph_compute_duration_seconds",
    "compute time of a request in the stage",
    SECONDS,
    exact=("sonograph_compute_seconds", "sonograph_compute_observations"),
)
BATCH = Metric(
    "sonograph_batch_size",
    "requests in the model's batch",
    BATCH_SIZES,
    exact=("sonograph_batch_sizes", "sonograph_batch_observations"),
)
AUDIO = Metric("sonograph_audio_seconds", "seconds of audio processed by the stage")
FALLBACKS = Metric(
    "sonograph_rollout_fallbacks", "requests that the stable model answered after the candidate failed", (), ("stage", "code")
)
MIRRORS = Metric(
    "sonograph_rollout_mirrors",
    "mirrored requests; dropped ones were not sent, or were ended for a client's request",
    (),
    ("stage", "dropped"),
)
SHARE = Metric("sonograph_rollout_share", "candidate's share of the stage's requests, in percent", is_gauge=True)
SCORE = Metric(
    "sonograph_rollout_score",
    "candidate against the stable model, over every ingress replica: value, low and high end of the 95% interval",
    (),
    ("stage", "score", "bound"),
    is_gauge=True,
)
DECLARED = (
    REQUESTS,
    ERRORS,
    CANCELLATIONS,
    RETRIES,
    REQUEST_DURATION,
    QUEUE_DURATION,
    COMPUTE_DURATION,
    BATCH,
    AUDIO,
    FALLBACKS,
    MIRRORS,
    SHARE,
    SCORE,
)
SERVER_ERRORS = tuple(
    error.code for error in (DeploymentError, Overloaded, ModelUnavailable, DeadlineExceeded, DeadlineUnreachable)
)
"""Codes of requests that fail by no fault of their client's, in any stage."""
METRICS = tuple(metric for declared in DECLARED for metric in (declared, *declared.counters))


class Metrics:
    """The metrics of one replica, made inside of it: Serve's labels are fixed when it is made.

    An increase costs 3 to 5 µs, an observation three times that.
    """

    def __init__(self, counter: Callable[..., Any], histogram: Callable[..., Any], gauge: Callable[..., Any]) -> None:
        """The classes of `ray.serve.metrics`, or others with their methods."""
        self._metrics: dict[str, Any] = {}
        for metric in METRICS:
            if metric.bounds:
                made = histogram(metric.name, metric.meaning, list(metric.bounds), metric.labels)
            else:
                made = (gauge if metric.is_gauge else counter)(metric.name, metric.meaning, metric.labels)
            self._metrics[metric.name] = made

    def begin(self, stage: str, *codes: str) -> None:
        """Export at 0 the counters of the stage's requests, and of their ends by SERVER_ERRORS and further `codes`.

        Not those of a client's errors, of which most never occur, nor the exact ones, since a mean misses the first of both.
        """
        for metric in (REQUESTS, CANCELLATIONS, RETRIES):
            begin(self._metrics[metric.name], {"stage": stage})
        for code in (*SERVER_ERRORS, *codes):
            begin(self._metrics[ERRORS.name], {"stage": stage, "code": code})

    def started(self, stage: str) -> None:
        """Count a request; one of finished, failed and cancelled follows."""
        self._add(REQUESTS.name, 1, stage=stage)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Count a request of the stage, and its failure or cancellation; the caller of a success calls `finished`."""
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
        self._observe(COMPUTE_DURATION, compute_s, stage)
        if queue_s is not None:
            self._observe(QUEUE_DURATION, queue_s, stage)
        if batch_size is not None:
            self._observe(BATCH, batch_size, stage)
        self._add(AUDIO.name, audio_s, stage=stage)

    def answered(self, took_s: float) -> None:
        """The whole time of a request that was answered, or that ended at its deadline."""
        self._observe(REQUEST_DURATION, took_s, INGRESS)

    def failed(self, stage: str, code: str) -> None:
        """`code`: a problem's. Nothing that clients send may become a label."""
        self._add(ERRORS.name, 1, stage=stage, code=code)

    def cancelled(self, stage: str) -> None:
        self._add(CANCELLATIONS.name, 1, stage=stage)

    def retried(self, stage: str) -> None:
        self._add(RETRIES.name, 1, stage=stage)

    def fell_back(self, stage: str, code: str) -> None:
        self._add(FALLBACKS.name, 1, stage=stage, code=code)

    def mirrored(self, stage: str, dropped: bool = False) -> None:
        self._add(MIRRORS.name, 1, stage=stage, dropped=str(dropped).lower())

    def share(self, stage: str, percent: float) -> None:
        self._metrics[SHARE.name].set(percent, {"stage": stage})

    def score(self, stage: str, score: str, value: float, low: float, high: float) -> None:
        for bound, one in (("value", value), ("low", low), ("high", high)):
            self._metrics[SCORE.name].set(float(one), {"stage": stage, "score": score, "bound": bound})

    def _add(self, name: str, value: float, **labels: str) -> None:
        if value > 0:  # Ray refuses 0 and numpy's numbers
            self._metrics[name].inc(float(value), labels)

    def _observe(self, metric: Metric, value: float, stage: str) -> None:
        seen = max(0.0, float(value))
        self._metrics[metric.name].observe(seen, {"stage": stage})
        for counter, increase in zip(metric.exact, (seen, 1.0), strict=True):
            self._add(counter, increase, stage=stage)
