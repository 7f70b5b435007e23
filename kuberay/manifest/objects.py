"""Parts that several Kubernetes objects share."""

from typing import Any

from kuberay.profiles import NAME, PORT

type Object = dict[str, Any]
"""A Kubernetes object, or a part of one."""

UID = 10001
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "fsGroup": UID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
PORTS = {"serve": PORT, "metrics": 8080}
HEAD_PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001, "as-metrics": 44217, "dash-metrics": 44227}

OF_RAY = {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}
"""Selector of the pods of every cluster that KubeRay makes here, during an upgrade both, and its Job that cleans Redis."""
OF_INGRESS = {"matchLabels": {"ray.io/group": "ingress"}}
"""Selector of the ingress's pods, which alone send traces."""

REVISION = "sonograph/revision"
"""Label of the pods of the candidate. Those of the first RayService have none: a new label would start a new cluster."""


def kubernetes_object(version: str, kind: str, name: str, **fields: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAME}, **fields}
