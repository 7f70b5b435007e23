"""The next change of a rollout by its plan: a pure function of what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphs.core.readiness import ModelState
from graphs.rollouts.judge import Verdict
from graphs.rollouts.state import Rollout

START_S = 60.0
"""Time until the candidate's application has to be in Serve."""
NONE = {"share": 0.0, "mirror": 0.0}


@dataclass(frozen=True)
class Evidence:
    candidate: ModelState
    verdicts: Sequence[Verdict]
    requests: int
    """The candidate's requests in the plan's current step."""


def next_change(rollout: Rollout, evidence: Evidence, now: float) -> dict[str, Any] | None:
    """The fields to change, or None. `now`: Unix time."""
    if rollout.plan is None or rollout.status not in ("running", "paused", "finished"):
        return None
    reason = _failure(rollout, evidence, now)
    if reason:
        return {"status": "aborted", "reason": reason, **NONE}
    if rollout.status != "running" or not evidence.candidate.ready or _waits(rollout, evidence, now):
        return None
    step = rollout.step + 1
    if step == len(rollout.plan.steps):
        return {"status": "finished", "reason": "every step has passed: promote the candidate, or abort"}
    return {"step": step, "share": rollout.plan.steps[step], "reason": f"step {step + 1} of {len(rollout.plan.steps)}"}


def waiting(rollout: Rollout, evidence: Evidence, now: float) -> str:
    """The reason why the next step has not begun; empty where nothing holds it."""
    if rollout.plan is None or rollout.status != "running":
        return ""
    if not evidence.candidate.ready:
        return f"the candidate is {evidence.candidate.phase}: {evidence.candidate.reason}".rstrip(": ")
    return _waits(rollout, evidence, now)


def _failure(rollout: Rollout, evidence: Evidence, now: float) -> str:
    candidate = evidence.candidate
    broken = [verdict.sentence for verdict in evidence.verdicts if verdict.state == "broken"]
    if broken:
        return "; ".join(broken)
    if candidate.phase == "failing":
        return f"the candidate does not serve: {candidate.reason or 'Serve gives no reason'}"
    if candidate.phase == "absent" and now - rollout.started_at > START_S:
        return f"Serve has no application {rollout.application} with a deployment {rollout.stage}"
    if rollout.step >= 0 and not candidate.ready:
        return f"no replica of the candidate serves any more: it is {candidate.phase}. {candidate.reason}".rstrip()
    return ""


def _waits(rollout: Rollout, evidence: Evidence, now: float) -> str:
    plan = rollout.plan
    if plan is None or rollout.step < 0:
        return ""
    left_s = plan.every_s - (now - rollout.changed_at)
    if left_s > 0:
        return f"the step lasts {left_s:.0f} s more"
    if evidence.requests < plan.min_requests:
        return f"the candidate has had {evidence.requests} requests in this step, and the next one needs {plan.min_requests}"
    return "; ".join(verdict.sentence for verdict in evidence.verdicts if verdict.state == "undecided")
