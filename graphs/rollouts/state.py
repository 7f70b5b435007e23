"""The state of a stage's rollout: a value that every ingress replica reads from the store. A change writes the next revision."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from deployments.settings import Section

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)]
Status = Literal["running", "paused", "aborted", "finished", "promoting"]
ACTIVE: tuple[Status, ...] = ("running", "paused", "finished", "promoting")
"""Status of a rollout whose candidate may get requests."""


class Budgets(Section):
    """Bounds on the candidate. One that is broken aborts the plan; one that is None does not count."""

    max_errors: Share | None = 0.01
    """Part of the candidate's requests that fail where the stable model answers."""
    max_p50: Ratio | None = None
    """Median time of the candidate's requests, as a multiple of the stable model's."""
    max_p95: Ratio | None = None
    """95th percentile of the time of the candidate's requests, as a multiple of the stable model's."""
    max_cpu: Ratio | None = None
    """CPU time of a request, as a multiple of the stable model's."""
    max_empty: Share | None = None
    """Part of the results that are empty, beyond the stable model's."""
    max_repetition: Share | None = None
    """Part of the transcripts that repeat themselves (a zlib ratio above 2.4), beyond the stable model's."""
    max_logprob_drop: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Fall of the mean log probability of a transcript's tokens, in nats."""
    max_word_drift: Share | None = None
    """Word errors of the candidate's transcripts against the stable model's, per word. For the same weights only."""
    max_pixel_drift: Share | None = None
    """Root mean square difference of the pictures' pixels, of the whole range. For the same weights only."""
    max_picture_drift: Share | None = None
    """Structural dissimilarity of the pictures (1 - SSIM, Wang et al. 2004). For the same weights only."""
    max_word_errors: Ratio | None = None
    """Word error rate on the labelled recordings, as a multiple of the stable model's."""


class Plan(Section):
    """Steps of the candidate's share, each for a time, as long as no budget is broken."""

    steps: tuple[Percent, ...] = Field(min_length=1, max_length=100)
    """The candidate's share in percent, rising."""
    every_s: Annotated[float, Field(ge=0.5, le=30 * 86400, allow_inf_nan=False)] = 600.0
    """Least time of a step, in seconds."""
    min_requests: int = Field(default=20, ge=0, le=500)
    """Least requests of the candidate in a step, before the next one."""
    budgets: Budgets = Field(default_factory=Budgets)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must rise: {', '.join(f'{step:g}' for step in self.steps)}")
        return self


class Labelled(Section):
    """Word errors on labelled recordings, which both models transcribed when the rollout started."""

    recordings: int = Field(ge=1)
    words: int = Field(ge=1)
    """Words of the labels."""
    stable: int = Field(ge=0)
    """Word errors of the stable model."""
    candidate: int = Field(ge=0)


class Rollout(Section):
    """The candidate of one stage. `stage` is the model's name; the stable model has what the candidate's share leaves."""

    stage: str
    application: str
    """The candidate's Serve application."""
    id: str
    """Random; the sticky choice of requests depends on it."""
    share: Percent = 0.0
    """Requests that the candidate answers, in percent."""
    mirror: Percent = 0.0
    """Requests that the other one of the two models computes too, in percent: their results are compared."""
    plan: Plan | None = None
    step: int = Field(default=-1, ge=-1)
    """The plan's current step; -1 before the first."""
    status: Status = "running"
    reason: str = ""
    """Cause of the last change of status."""
    labelled: Labelled | None = None
    samples: int = Field(default=0, ge=0, le=10_000)
    """Mirrored requests to be kept, at most; 0 keeps none."""
    started_at: float
    """Unix time, as the next ones."""
    changed_at: float
    """Time of the last change of the share."""
    written_at: float
    """Time of this revision."""
    revision: int = Field(default=1, ge=1)

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    def changed(self, at: float, **changes: Any) -> "Rollout":
        """The next revision. Raises ValidationError."""
        moved = {"changed_at": at} if changes.get("share", self.share) != self.share else {}
        written = {"revision": self.revision + 1, "written_at": at}
        return Rollout.model_validate(self.model_dump() | moved | changes | written)
