"""Answers of `/graph/rollouts`."""

from typing import Any, Literal

from graphs.core.parameters import JsonAnswer
from graphs.rollouts.state import Percent, Rollout, Status


class CandidateState(JsonAnswer):
    model: str | None
    """The checkpoint's name; null until Serve has the application."""
    ready: bool
    reason: str
    """The reason why it is not ready."""


class VerdictAnswer(JsonAnswer):
    budget: str
    bound: float
    estimate: float | None
    low: float | None
    """Lower end of the interval."""
    high: float | None
    n: int
    """Requests, pairs or words that the estimate is made of."""
    state: Literal["within", "broken", "undecided"]
    sentence: str


class Revision(JsonAnswer):
    revision: int
    application: str
    share: Percent
    mirror: Percent
    step: int
    status: Status
    reason: str
    at: float
    """Unix time."""


class RolloutAnswer(JsonAnswer):
    rollout: Rollout
    candidate: CandidateState
    waiting: str
    """The reason why the plan's next step has not begun; empty where nothing holds it."""
    figures: dict[str, Any]
    """Of both models' requests, and of the pairs, over every ingress replica."""
    verdicts: list[VerdictAnswer]


class RolloutWithHistory(RolloutAnswer):
    history: list[Revision]
    """The last 50 revisions, oldest first."""


class RemovedSamples(JsonAnswer):
    removed: int


class RolloutsAnswer(JsonAnswer):
    rollouts: dict[str, RolloutAnswer]
    """By stage."""
    application: str
    """The service's Serve application."""
    serve_api: str | None
    """Address of Ray's dashboard, where Serve's configuration is changed; null where it has none."""
