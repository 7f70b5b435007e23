"""nvidia/*.yaml: ConfigMaps for NVIDIA's GPU operator, which divide the GPUs of the nodes as the values want."""

from typing import Any

import yaml

from kuberay.manifest.objects import Object
from kuberay.pod_values import Gpu
from kuberay.profiles import Profile

NAMESPACE = "gpu-operator"
"""Namespace of the operator, as its own instructions have it."""
DISABLED = "all-disabled"
"""Layout of nodes without a label, which the operator expects among those of any ConfigMap."""
MIG = "nvidia.com/mig-"


def mig_parted(profile: Profile) -> list[Object]:
    """The layout of a node's GPUs for MIG, as the values' nodes have it: for the operator's `migManager.config.name`."""
    divided = {
        node.name: {name.removeprefix(MIG): count for name, count in node.gpus.items() if name.startswith(MIG)}
        for node in profile.values.nodes
    }
    layouts = {
        f"{profile.service}-{name}": [{"devices": "all", "mig-enabled": True, "mig-devices": parts}]
        for name, parts in divided.items()
        if parts
    }
    content = {"version": "v1", "mig-configs": {DISABLED: [{"devices": "all", "mig-enabled": False}], **layouts}}
    return [_config(f"{profile.service}-mig", "config.yaml", content)] if layouts else []


def time_slicing(profile: Profile) -> list[Object]:
    """The sharing of each GPU by time slicing: for the operator's `devicePlugin.config.name`."""
    sliced = {gpu.resource: gpu for gpu in _gpus(profile) if gpu.time_slicing_replicas}
    resources = [{"name": name, "replicas": gpu.time_slicing_replicas} for name, gpu in sliced.items()]
    content = {"version": "v1", "sharing": {"timeSlicing": {"renameByDefault": True, "resources": resources}}}
    return [_config(f"{profile.service}-time-slicing", "shared", content)] if resources else []


def _gpus(profile: Profile) -> list[Gpu]:
    return [group.gpu for group in profile.groups]


def _config(name: str, entry: str, content: Any) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {entry: yaml.safe_dump(content, sort_keys=False)},
    }
