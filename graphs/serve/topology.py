"""Topology of the application for `GET /graph`: its deployments, replicas and nodes, from Serve's controller and Ray."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]

from deployments.errors import ModelUnavailable
from graphs.core.stage import Stage
from graphs.serve.status import details

ANSWER_S = 10.0
"""Longest wait for both; neither answers while Ray's control store is unreachable."""


@dataclass(frozen=True)
class ClusterState:
    serve: dict[str, Any]
    """The content of `GET /api/serve/applications/` on the head."""
    nodes: list[dict[str, Any]]
    """The result of `ray.nodes()`."""


def cluster_state() -> ClusterState:
    """Read the state; the call blocks. Serve 2.60 has no public function that reads it from a replica."""
    found = details()
    if found is None:
        raise RuntimeError("Serve does not run")
    return ClusterState(found, ray.nodes())  # type: ignore[no-untyped-call]


class Topology:
    """Topology of one application. Requests that come while the state is read get the same one: there is one thread for all of them."""

    def __init__(
        self,
        application: str,
        stages: Sequence[Stage[Any, Any]],
        state: Callable[[], ClusterState] = cluster_state,
        rollouts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """`rollouts`: the rollouts by stage, as `graphs.rollouts.manager.Rollouts.summaries` gives them."""
        self._application = application
        self._stages = stages
        self._rollouts = rollouts
        self._state = state
        self._reading: asyncio.Task[ClusterState] | None = None

    async def __call__(self) -> dict[str, Any]:
        """Return the description as JSON-compatible values. Raises ModelUnavailable."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._state))
            self._reading.add_done_callback(asyncio.Task.exception)  # which nobody may wait for any more
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await asyncio.shield(self._reading)
        except Exception as error:
            raise ModelUnavailable(f"Ray does not answer: {type(error).__name__} {error}".rstrip()) from error
        return describe(self._application, self._stages, found, self._rollouts())


def describe(
    application: str, stages: Sequence[Stage[Any, Any]], state: ClusterState, rollouts: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the ingress first, then the stages in their order, each with its rollout and the candidate's replicas."""
    found = state.serve["applications"].get(application, {})
    nodes = {node["NodeID"]: node for node in state.nodes if node["Alive"]}
    by_name = {stage.name: stage for stage in stages}
    deployments = found.get("deployments", {})
    order = [name for name in deployments if name not in by_name] + list(by_name)

    def described(name: str) -> dict[str, Any]:
        stage, rollout = by_name.get(name), rollouts.get(name)
        if rollout is not None:
            candidate = state.serve["applications"].get(rollout["rollout"]["application"], {}).get("deployments", {})
            rollout = {**rollout, "candidate": {**rollout["candidate"], **_deployment(candidate.get(name), nodes)}}
        return {
            "stage": name,
            "deployment": name,
            "model": stage and stage.settings.model_name,
            "version": stage and stage.spec.version,
            **_deployment(deployments.get(name), nodes),
            "queue": stage and {"waiting": stage.limiter.waiting, "running": stage.limiter.running},
            "rollout": rollout,
        }

    return {
        "application": application,
        "status": found.get("status", "NOT_STARTED"),
        "stages": [described(name) for name in order],
    }


def _deployment(deployment: dict[str, Any] | None, nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a deployment of Serve; None is one that Serve does not know."""
    details = deployment or {}
    options = details.get("deployment_config", {}).get("ray_actor_options") or {}
    resources = {key: amount for key, amount in details.get("required_resources", {}).items() if amount}
    labels = options.get("label_selector") or {}
    lines = (details.get("message") or "").strip().splitlines()
    return {
        "status": details.get("status", "ABSENT"),
        "message": lines[-1].strip() if lines else "",  # the error's sentence, if it is a traceback
        "requested": {"resources": resources, "labels": labels},
        "unsatisfiable": unsatisfiable(resources, labels, list(nodes.values())),
        "replicas": [_replica(replica, nodes) for replica in details.get("replicas", [])],
        "target_replicas": details.get("target_num_replicas", 0),
    }


def _replica(replica: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a replica; one that waits for placement has no node."""
    node = nodes.get(replica.get("node_id") or "", {})
    return {
        "id": replica["replica_id"],
        "state": replica["state"],
        "node": replica.get("node_id"),
        "host": node.get("NodeManagerHostname"),
        "address": node.get("NodeManagerAddress"),
        "labels": {key: value for key, value in node.get("Labels", {}).items() if not key.startswith("ray.io/")},
    }


def unsatisfiable(resources: Mapping[str, float], labels: Mapping[str, str], nodes: list[Any]) -> list[str]:
    """List the requests that no node of the cluster can satisfy even when idle: such a replica waits, and Serve gives no reason."""
    lacking = [
        f"the resource {name}: {amount:g}"
        for name, amount in resources.items()
        if not any(node["Resources"].get(name, 0) >= amount for node in nodes)
    ]
    lacking += [
        f"the label {key}: {value}"
        for key, value in labels.items()
        if not any(node_labels_match_selector(node["Labels"], {key: value}) for node in nodes)
    ]
    if lacking or any(_satisfies(node, resources, labels) for node in nodes):
        return lacking
    requested = [f"{name}: {amount:g}" for name, amount in resources.items()] + [
        f"{key}: {value}" for key, value in labels.items()
    ]
    return [f"{', '.join(requested)} on one node"]


def _satisfies(node: Mapping[str, Any], resources: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    enough = all(node["Resources"].get(name, 0) >= amount for name, amount in resources.items())
    return enough and node_labels_match_selector(node["Labels"], dict(labels))
