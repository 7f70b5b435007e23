"""Parts that several Kubernetes objects share."""

from typing import Any

from kuberay.pod_values import GPU, PodValues
from kuberay.profiles import PORT, Profile

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

CLUSTER, NODE_TYPE, GROUP = "ray.io/cluster", "ray.io/node-type", "ray.io/group"
"""Labels that KubeRay gives to its pods."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that Kubernetes itself gives to a namespace: its name."""
INSTANCE = "app.kubernetes.io/instance"
"""Label of all pods of an installation: its name. Two in one namespace do not meet, since every selector has it."""
COMPONENT = "app.kubernetes.io/component"
"""Label of the pods that are not Ray's."""
REVISION = "sonograph/revision"
"""Label of the pods of the candidate. Those of the first RayService have none: a new label would start a new cluster."""
NO_GPUS = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
"""Variable of a container without a GPU: its image says `all`, and gets every GPU where NVIDIA's runtime is the node's default."""


def instance(profile: Profile) -> dict[str, str]:
    """The label of the pods of this installation."""
    return {INSTANCE: profile.service}


def component(profile: Profile, name: str) -> dict[str, str]:
    """The labels of the pods of a part that is not Ray's."""
    return {**instance(profile), COMPONENT: name}


def of_ray(profile: Profile) -> Object:
    """A selector of the pods of every cluster that KubeRay makes here, during an upgrade both, and its Job that cleans Redis."""
    return {"matchLabels": instance(profile), "matchExpressions": [{"key": CLUSTER, "operator": "Exists"}]}


def of_group(profile: Profile, group: str) -> Object:
    """A selector of a worker group's pods."""
    return {"matchLabels": {**instance(profile), GROUP: group}}


def placement(profile: Profile, pods: PodValues, gpu: bool = False) -> Object:
    """The part of a pod's specification about its node and the registry's secrets."""
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if gpu else []
    tolerations += [one.model_dump(by_alias=True, exclude_defaults=True) for one in pods.tolerations or ()]
    spec: Object = {
        "imagePullSecrets": [{"name": name} for name in profile.values.pull_secrets],
        "nodeSelector": pods.node_selector,
        "affinity": pods.affinity.model_dump(by_alias=True, exclude_none=True) if pods.affinity else {},
        "tolerations": tolerations,
        "priorityClassName": pods.priority_class,
        "runtimeClassName": pods.runtime_class,
    }
    return {key: value for key, value in spec.items() if value}


def metadata(labels: dict[str, str], pods: PodValues) -> Object:
    """A pod template's metadata: an installation's own labels cannot take the place of these."""
    return {"labels": {**pods.labels, **labels}, **({"annotations": pods.annotations} if pods.annotations else {})}


def kubernetes_object(profile: Profile, version: str, kind: str, name: str, **fields: Object) -> Object:
    """An object of this name in the installation's namespace."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": profile.namespace}, **fields}


def claim(mode: str, size_gib: int, storage_class: str) -> Object:
    """The specification of a PersistentVolumeClaim; without a StorageClass it has the cluster's default."""
    own = {"storageClassName": storage_class} if storage_class else {}
    return {"accessModes": [mode], **own, "resources": {"requests": {"storage": f"{size_gib}Gi"}}}
