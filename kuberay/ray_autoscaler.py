"""What Ray's own KubeRay code makes of a manifest: the same that its autoscaler derives inside a cluster. Private to Ray, as of 2.60."""

import copy
from dataclasses import dataclass
from typing import Any

HEAD = "headgroup"
"""Ray's name of the head's."""
UNBOUNDED = 2147483647
"""`maxReplicas` where a group names none."""


@dataclass(frozen=True)
class NodeType:
    resources: dict[str, int]
    labels: dict[str, str]
    min_workers: int
    max_workers: int


def node_types(ray_service: dict[str, Any]) -> dict[str, NodeType]:
    """By group; the head's under HEAD. Raises whatever Ray does where it cannot read the manifest."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _generate_available_node_types_from_ray_cr_spec

    types = _generate_available_node_types_from_ray_cr_spec(_filled_in(ray_service))
    return {
        name: NodeType(type["resources"], type["labels"], type["min_workers"], type["max_workers"])
        for name, type in types.items()
    }


def autoscaling_config(ray_service: dict[str, Any]) -> dict[str, Any]:
    """All of it, as the autoscaler takes it. Raises the same."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    metadata = {"name": ray_service["metadata"]["name"], "namespace": ray_service["metadata"].get("namespace", "default")}
    return dict(_derive_autoscaling_config_from_ray_cr({"metadata": metadata, "spec": _filled_in(ray_service)}))


def _filled_in(ray_service: dict[str, Any]) -> dict[str, Any]:
    """The cluster's spec with the defaults that Kubernetes fills in."""
    spec: dict[str, Any] = copy.deepcopy(ray_service["spec"]["rayClusterConfig"])
    for group in spec.get("workerGroupSpecs", []):
        group.setdefault("minReplicas", 0)
        group.setdefault("maxReplicas", UNBOUNDED)
    return spec
