"""Answer of `GET /graph`."""

from graphs.core.parameters import JsonAnswer
from graphs.http.schemas.rollouts import CandidateState, RolloutAnswer


class ReplicaAnswer(JsonAnswer):
    id: str
    state: str
    """Serve's: `RUNNING`, `STARTING`, `STOPPING` and others."""
    node: str | None
    """The id of its Ray node; null while it waits for one."""
    host: str | None
    """The node's host name, which on Kubernetes is the pod's."""
    address: str | None
    """The node's IP address."""
    labels: dict[str, str]
    """The node's, without Ray's own."""


class Requested(JsonAnswer):
    resources: dict[str, float]
    labels: dict[str, str]


class DeploymentAnswer(JsonAnswer):
    status: str
    """Serve's: `HEALTHY`, `UPDATING`, `UNHEALTHY` and others; `ABSENT` where Serve does not know it."""
    message: str
    """Serve's last line about it."""
    requested: Requested
    unsatisfiable: list[str]
    """The requests that no node satisfies."""
    replicas: list[ReplicaAnswer]
    target_replicas: int


class QueueAnswer(JsonAnswer):
    waiting: int
    running: int


class CandidateAnswer(DeploymentAnswer, CandidateState):
    pass


class StageRollout(RolloutAnswer):
    candidate: CandidateAnswer


class _Stage(JsonAnswer):
    stage: str
    deployment: str
    model: str | None
    """Null for the ingress."""
    version: str | None


class StageAnswer(DeploymentAnswer, _Stage):
    queue: QueueAnswer | None
    """Of the ingress replica that answers."""
    rollout: StageRollout | None


class TopologyAnswer(JsonAnswer):
    application: str
    status: str
    """Serve's, of the application: `RUNNING`, `DEPLOYING`, `UNHEALTHY` and others."""
    stages: list[StageAnswer]
    """The ingress, then the stages in their order."""
