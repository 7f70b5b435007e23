"""A stage's rollout as one ingress replica knows it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from graphs.core.metrics import Metrics
from graphs.core.readiness import ModelState, Readiness
from graphs.core.stage import Stage
from graphs.rollouts.judge import Verdict, figures
from graphs.rollouts.observations import Observations
from graphs.rollouts.recorder import Recorder
from graphs.rollouts.state import Rollout


@dataclass(frozen=True)
class Candidate:
    """The candidate's stage, and its readiness in its own Serve application."""

    stage: Stage[Any, Any]
    readiness: Readiness


@dataclass
class Tracked:
    """The rollout, its candidate, and what has been seen of both models."""

    rollout: Rollout
    recorder: Recorder
    candidate: Candidate | None = None
    others: dict[str, bytes] = field(default_factory=dict)
    """Observations of the other ingress replicas, by replica."""
    verdicts: list[Verdict] = field(default_factory=list)
    waiting: str = ""
    """The reason why the next step has not begun."""

    def observations(self) -> Observations:
        """Of all ingress replicas."""
        return Observations.merged([self.recorder.observations, *map(Observations.load, self.others.values())])

    def state(self) -> ModelState:
        if self.candidate is None:
            return ModelState("absent", f"Serve has no application {self.rollout.application}")
        return self.candidate.readiness.last(self.rollout.stage) or ModelState("starting")

    def summary(self) -> dict[str, Any]:
        """The answer of the API, without the history."""
        state = self.state()
        return {
            "rollout": self.rollout.model_dump(mode="json"),
            "candidate": {
                "model": self.candidate.stage.settings.model_name if self.candidate else None,
                "ready": state.ready,
                "reason": state.reason,
            },
            "waiting": self.waiting,
            "figures": figures(self.observations()),
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }

    def publish(self, metrics: Metrics, seen: Mapping[str, Any]) -> None:
        """Set the metrics of the scores. `seen`: the figures of all ingress replicas."""
        stage = self.rollout.stage
        drifts = {name: one for name, one in seen["pairs"].items() if isinstance(one, dict)}
        for name, one in drifts.items():
            metrics.score(stage, name, one["value"], one["low"], one["high"])
        for verdict in self.verdicts:
            name = verdict.budget.removeprefix("max_")
            if name not in drifts and verdict.estimate is not None and verdict.low is not None and verdict.high is not None:
                metrics.score(stage, name, verdict.estimate, verdict.low, verdict.high)
