"""`GET /graph`: what runs where, from what Serve's controller and Ray know now. Off unless `http.show_graph`."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from fastapi import Depends, FastAPI
from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]
from ray.serve.context import _get_global_client
from starlette.requests import Request

from deployments.errors import ModelUnavailable
from graphs.http.auth import Access
from graphs.http.errors import InvalidApiKey
from graphs.http.schemas.openapi import KEY, problems

ANSWER_S = 10.0
"""Longest wait for both; while Ray's control store is away, neither answers."""


@dataclass(frozen=True)
class StageNow:
    """A stage as this ingress replica sees it. A stage's deployment has its name."""

    name: str
    model: str
    version: str
    """Triton's, of the model."""
    waiting: int
    running: int


@dataclass(frozen=True)
class Known:
    serve: dict[str, Any]
    """As `GET /api/serve/applications/` on the head answers."""
    nodes: list[dict[str, Any]]
    """As `ray.nodes()` answers."""


def ask() -> Known:
    """Blocks. Serve offers no public way to read it from a replica; as of 2.60."""
    client = _get_global_client()
    assert client is not None, "it raises instead"
    return Known(client.get_serve_details(), ray.nodes())  # type: ignore[no-untyped-call]


def show(
    app: FastAPI, application: str, stages: Callable[[], list[StageNow]], access: Access, known: Callable[[], Known] = ask
) -> None:
    """Adds the route."""
    asking = asyncio.Lock()

    async def identify(request: Request) -> None:
        access.require(request)

    @app.get(
        "/graph",
        summary="What runs where",
        responses=problems((InvalidApiKey, ModelUnavailable)),
        dependencies=[Depends(KEY), Depends(identify)],
    )
    async def graph() -> dict[str, Any]:
        try:
            async with asyncio.timeout(ANSWER_S), asking:  # one question at a time
                found = await asyncio.to_thread(known)
        except Exception as error:
            raise ModelUnavailable(f"Ray does not say what runs where: {type(error).__name__} {error}".rstrip()) from error
        return describe(application, stages(), found)


def describe(application: str, stages: list[StageNow], known: Known) -> dict[str, Any]:
    """The ingress comes first, then the stages in their order."""
    found = known.serve["applications"].get(application, {})
    nodes = {node["NodeID"]: node for node in known.nodes if node["Alive"]}
    by_name = {stage.name: stage for stage in stages}
    deployments = found.get("deployments", {})
    order = [name for name in deployments if name not in by_name] + list(by_name)
    return {
        "application": application,
        "status": found.get("status", "NOT_STARTED"),
        "stages": [_stage(name, by_name.get(name), deployments.get(name), nodes) for name in order],
    }


def _stage(name: str, now: StageNow | None, deployment: dict[str, Any] | None, nodes: Mapping[str, Any]) -> dict[str, Any]:
    known = deployment or {}
    options = known.get("deployment_config", {}).get("ray_actor_options") or {}
    resources = {key: amount for key, amount in known.get("required_resources", {}).items() if amount}
    labels = options.get("label_selector") or {}
    lines = (known.get("message") or "").strip().splitlines()
    return {
        "stage": name,
        "deployment": name,
        "model": now and now.model,
        "version": now and now.version,
        "status": known.get("status", "ABSENT"),
        "message": lines[-1].strip() if lines else "",  # of a traceback, the sentence
        "asks": {"resources": resources, "labels": labels},
        "nobody_offers": nobody_offers(resources, labels, list(nodes.values())),
        "replicas": [_replica(replica, nodes) for replica in known.get("replicas", [])],
        "wanted_replicas": known.get("target_num_replicas", 0),
        "queue": now and {"waiting": now.waiting, "running": now.running},
    }


def _replica(replica: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """A replica that waits for a place has no node."""
    node = nodes.get(replica.get("node_id") or "")
    own = {} if node is None else {key: value for key, value in node["Labels"].items() if not key.startswith("ray.io/")}
    return {"id": replica["replica_id"], "state": replica["state"], "node": replica.get("node_id"), "labels": own}


def nobody_offers(resources: Mapping[str, float], labels: Mapping[str, str], nodes: list[Any]) -> list[str]:
    """What no node of the cluster has, taken or not; a replica that asks for it waits, and Serve does not say why."""
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
    if lacking or any(_has(node, resources, labels) for node in nodes):
        return lacking
    asked = [f"{name}: {amount:g}" for name, amount in resources.items()] + [f"{key}: {value}" for key, value in labels.items()]
    return [f"{', '.join(asked)} on one node"]


def _has(node: Mapping[str, Any], resources: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    enough = all(node["Resources"].get(name, 0) >= amount for name, amount in resources.items())
    return enough and node_labels_match_selector(node["Labels"], dict(labels))
