"""A manifest as Ray's autoscaler reads it: node types and the autoscaling configuration."""

import copy
from dataclasses import dataclass
from typing import Any

from graphs.serve import autoscaler

HEAD = "headgroup"
"""Ray's and KubeRay's name of the head's group."""
UNBOUNDED = 2147483647
"""`maxReplicas` where a group names none."""


@dataclass(frozen=True)
class NodeType:
    resources: dict[str, int]
    labels: dict[str, str]
    min_workers: int
    max_workers: int


def node_types(ray_service: dict[str, Any]) -> dict[str, NodeType]:
    """Node types by group; the head's under HEAD. Raises Ray's own error for a manifest that it cannot read."""
    types = autoscaler.available_node_types(_with_defaults(ray_service))
    return {
        name: NodeType(type["resources"], type["labels"], type["min_workers"], type["max_workers"])
        for name, type in types.items()
    }


def autoscaling_config(ray_service: dict[str, Any]) -> dict[str, Any]:
    """The autoscaler's whole configuration. Raises the same."""
    metadata = {"name": ray_service["metadata"]["name"], "namespace": ray_service["metadata"].get("namespace", "default")}
    return autoscaler.autoscaling_config({"metadata": metadata, "spec": _with_defaults(ray_service)})


def _with_defaults(ray_service: dict[str, Any]) -> dict[str, Any]:
    """The cluster's spec with the defaults that Kubernetes fills in."""
    spec: dict[str, Any] = copy.deepcopy(ray_service["spec"]["rayClusterConfig"])
    for group in spec.setdefault("workerGroupSpecs", []):
        group.setdefault("minReplicas", 0)
        group.setdefault("maxReplicas", UNBOUNDED)
    return spec
