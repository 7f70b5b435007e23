"""Errors of the rollouts' API."""

from deployments.errors import DeploymentError


class RolloutConflict(DeploymentError):
    status = 409
    code = "rollout_conflict"
    title = "Conflict with the stage's rollout"
