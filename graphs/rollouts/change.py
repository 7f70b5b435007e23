"""Changes of a stage's rollout by an operator, and the revision that follows."""

import secrets
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from deployments.errors import InvalidInput
from deployments.settings import Section
from graphs.rollouts.errors import RolloutConflict
from graphs.rollouts.state import Labelled, Percent, Plan, Rollout

OF_PAIRS = ("max_word_drift", "max_pixel_drift", "max_picture_drift")
"""Budgets of results of one request by both models."""
FIELDS = ("share", "mirror", "plan", "samples", "labelled")


class Change(Section):
    """The fields that change. With `application` it begins a rollout; without it, it changes the one that is there."""

    application: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")
    """Begin a rollout of this Serve application, which has a deployment of the stage's name."""
    share: Percent | None = None
    """Requests that the candidate answers, in percent."""
    mirror: Percent | None = None
    """Requests that both models compute, in percent; the client gets one answer and waits for one."""
    plan: Plan | None = None
    """Steps of the share, and the budgets that abort them."""
    samples: int | None = Field(default=None, ge=0, le=10_000)
    """Mirrored requests to be kept."""
    labelled: Labelled | None = None
    """Word errors on labelled recordings."""
    status: Literal["running", "paused", "aborted", "promoting"] | None = None
    """`paused` keeps the share; `aborted` takes it; `promoting` gives the candidate every request."""

    @model_validator(mode="after")
    def _one_decides_the_share(self) -> Self:
        if self.plan is not None and self.share:
            raise ValueError("share and plan are given, and the plan's steps set the share: leave one out")
        return self


def begun(stage: str, change: Change, latest: Rollout | None, revision: int, now: float) -> Rollout:
    """The first revision of a new rollout. `latest`: the stage's last one. Raises RolloutConflict, InvalidInput."""
    if latest is not None and latest.active:
        raise RolloutConflict(
            f"{stage} has a rollout already, of {latest.application}, which is {latest.status}: abort or promote that one first"
        )
    if change.status is not None:
        raise InvalidInput("a new rollout is running: leave status out")
    given = {name: value for name in FIELDS if (value := getattr(change, name)) is not None}
    made = Rollout(
        stage=stage,
        application=str(change.application),
        id=secrets.token_hex(4),
        started_at=now,
        changed_at=now,
        written_at=now,
        revision=revision,
        reason="begun",
        **given,
    )
    return _possible(made)


def changed(stage: str, change: Change, latest: Rollout | None, now: float) -> Rollout:
    """The next revision of a rollout. Raises RolloutConflict, InvalidInput."""
    if latest is None:
        raise RolloutConflict(f"{stage} has no rollout: begin one by naming its Serve application")
    if not latest.active:
        raise RolloutConflict(f"the rollout of {latest.application} is {latest.status} ({latest.reason}): begin a new one")
    if change.plan is not None and latest.plan is not None:
        raise RolloutConflict(f"{stage} has a plan already, of {latest.application}: abort or promote that one first")
    if change.share is not None and latest.plan is not None:
        raise RolloutConflict(f"the plan of {latest.application} sets the share: abort it, or promote it")
    if latest.status == "promoting" and change.status not in ("promoting", "aborted"):
        raise RolloutConflict(f"{latest.application} is being promoted: wait for its end, or abort it")
    given: dict[str, Any] = {name: value for name in FIELDS if (value := getattr(change, name)) is not None}
    if change.status is not None:
        given |= {"status": change.status, "reason": "by an operator", **_shares(change.status)}
    if not given:
        raise InvalidInput(f"nothing changes: name one of {', '.join((*FIELDS, 'status'))}")
    return _possible(latest.changed(now, **given))


def _shares(status: str) -> Mapping[str, float]:
    return {"aborted": {"share": 0.0, "mirror": 0.0}, "promoting": {"share": 100.0, "mirror": 0.0}}.get(status, {})


def _possible(rollout: Rollout) -> Rollout:
    """The rollout. Raises InvalidInput for a budget that nothing could judge."""
    if rollout.plan is None or rollout.status not in ("running", "paused"):
        return rollout
    budgets = rollout.plan.budgets.model_dump(exclude_none=True)
    of_pairs = [name for name in OF_PAIRS if name in budgets]
    if of_pairs and rollout.mirror == 0:
        raise InvalidInput(f"{', '.join(of_pairs)} compare results of one request by both models: set mirror above 0")
    if "max_word_errors" in budgets and rollout.labelled is None:
        raise InvalidInput("max_word_errors needs labelled recordings: give them, or leave the budget out")
    return rollout
