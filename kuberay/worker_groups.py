"""Serve's deployments and KubeRay's worker groups, with the resources of each.

A worker group's name is also its image's. A deployment is pinned to its group twice: by a custom resource of its own name, one slot
for each replica, which the autoscaler counts; and by the label `image`, which names the image of the pod.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.model_spec import ModelSettings, ModelSpec
from graphs.core import metrics
from kuberay.pod_values import Gpu, PodValues
from kuberay.values import GroupValues, ModelValues, Values

type Model = tuple[ModelSpec, ModelSettings]
"""A model's description, and its section of the settings."""

ALL = "all"
"""The worker group, and the image, that hold all models."""
NO_GPU = Gpu(count=0)
POD_CPU = 0.25
"""CPUs of the other processes in every pod: raylet, agents, Serve's proxy."""


@dataclass(frozen=True)
class Deployment:
    """One of Serve's. Its replicas' torch threads are its `cpus`."""

    name: str
    cpus: int
    gpus: float = 0
    min_replicas: int = 1
    max_replicas: int = 1
    batch: int = 1
    """Requests that one replica serves together."""

    upscale_delay_s: float = 10
    downscale_delay_s: float = 600
    """Time that load, or its absence, lasts before Serve changes the number of replicas."""

    @property
    def target_ongoing_requests(self) -> int:
        """Autoscaling aims at a full batch and one request that waits. The ingress sends a replica more, so that overload shows."""
        return self.batch + 1


@dataclass(frozen=True)
class Group:
    name: str
    deployments: tuple[Deployment, ...]
    memory_gib: int
    gpu: Gpu = NO_GPU
    """GPU of each pod."""
    surge_percent: int = 50
    """Replicas beyond the target during an update, each in a pod of its own; 0 stops the old one first."""

    cpu_request: float | None = None
    """CPUs that Kubernetes keeps for a pod; None for those of its replicas and of the other processes."""

    pods: PodValues = field(default_factory=PodValues)
    """Where its pods run."""

    zone_spread: str = ""
    """Whether its pods spread over zones: `ScheduleAnyway`, `DoNotSchedule`, or not at all."""

    @property
    def cpus(self) -> int:
        """Ray's, of a pod: one replica of each deployment."""
        return sum(deployment.cpus for deployment in self.deployments)

    @property
    def reserved_cpu(self) -> float:
        """CPUs that Kubernetes keeps for a pod."""
        return self.cpus + POD_CPU if self.cpu_request is None else self.cpu_request

    @property
    def min_pods(self) -> int:
        return max(deployment.min_replicas for deployment in self.deployments)

    @property
    def max_pods(self) -> int:
        most = max(deployment.max_replicas for deployment in self.deployments)
        return most + math.ceil(most * self.surge_percent / 100)

    @property
    def resources(self) -> dict[str, str]:
        """Ray's resources of a pod. GPU is always stated: Ray's autoscaler does not recognise a part of one by its name."""
        gpu = {"GPU": str(self.gpu.count)} if self.gpu.count else {}
        return {"CPU": str(self.cpus), **gpu, **{deployment.name: "1" for deployment in self.deployments}}

    @property
    def labels(self) -> dict[str, str]:
        return {"image": self.name}


INGRESS = Group(metrics.INGRESS, (Deployment(metrics.INGRESS, cpus=1, min_replicas=2, max_replicas=4, batch=15),), memory_gib=2)
"""Two pods, so that one can end at any time. Measured: replica 0.2, proxy 0.2, raylet and agents 0.2 GiB; 0.25 of recordings on top."""


def worker_groups(values: Values, models: Sequence[Model]) -> tuple[Group, ...]:
    """The ingress' group, and a group for each model or the one that all share. Raises ValueError for values that no group can have."""
    for name, group in values.groups.items():
        if group.models and name != ALL:
            raise ValueError(f"groups.{name}.models: only the group {ALL} has several models, whose image holds all")
    shared = ALL in values.groups and values.groups[ALL].models
    groups = [_shared_group(models, values)] if shared else [_own_group(model, values) for model in models]
    return tuple(_adjusted(group, values) for group in (INGRESS, *groups))


def _own_group(model: Model, values: Values) -> Group:
    """A worker group for this model, named as the model is."""
    spec, settings = model
    stated = values.groups.get(spec.name, GroupValues())
    gpu = stated.gpu or values.gpu
    gpus = spec.hardware.gpus and gpu.count
    deployment = Deployment(spec.name, spec.hardware.cpus, gpus, batch=settings.max_batch)
    return Group(spec.name, (deployment,), spec.hardware.memory_gib, gpu if gpus else NO_GPU)


def _shared_group(models: Sequence[Model], values: Values) -> Group:
    """One worker group whose pods hold a replica of every model and share one GPU, in proportion to the models' `gpus`.

    No second pod fits the GPU, so an update stops a replica before it starts the next.
    """
    stated = values.groups[ALL]
    gpu = stated.gpu or values.gpu
    deployments, memory_gib = [], 0
    for spec, settings in models:
        size = stated.models.get(spec.name, ModelValues())
        gpus = (size.gpus or spec.hardware.gpus) if gpu.count else 0
        deployments.append(Deployment(spec.name, size.cpus or spec.hardware.cpus, gpus, batch=settings.max_batch))
        memory_gib += size.memory_gib or spec.hardware.memory_gib
    total = sum(one.gpus for one in deployments)
    # Rounded down, so that the shares never exceed the GPU.
    parts = (math.floor(one.gpus / total * 100 * gpu.count + 1e-6) / 100 if total else 0 for one in deployments)
    shares = tuple(replace(one, gpus=part) for one, part in zip(deployments, parts, strict=True))
    for one, share in zip(deployments, shares, strict=True):
        if one.gpus and not share.gpus:
            raise ValueError(f"groups.{ALL}.models.{one.name}.gpus: its part of the GPU is below 0.01: give it more")
    return Group(ALL, shares, memory_gib, gpu if total else NO_GPU, surge_percent=0)


OF_DEPLOYMENTS = ("min_replicas", "max_replicas", "cpus", "upscale_delay_s", "downscale_delay_s")
OF_GROUPS = ("cpu_request", "memory_gib")


def _adjusted(group: Group, values: Values) -> Group:
    """The group as the values want it."""
    stated = values.groups.get(group.name, GroupValues())
    if stated.cpus and len(group.deployments) > 1:
        raise ValueError(f"groups.{group.name}.cpus: the group has several models: give {group.name}.models.MODEL.cpus")
    if stated.gpu and stated.gpu.name and not group.gpu.name:
        raise ValueError(f"groups.{group.name}.gpu: no replica of the group uses a GPU: leave it out")
    own = _given(stated, OF_DEPLOYMENTS)
    deployments = tuple(replace(deployment, **own) for deployment in group.deployments)
    for one in deployments:
        if one.min_replicas > one.max_replicas:
            raise ValueError(
                f"groups.{group.name}: min_replicas is above max_replicas ({one.min_replicas} and {one.max_replicas})"
            )
    zone_spread = values.zone_spread if stated.zone_spread is None else stated.zone_spread
    pods = placed(values, stated)
    return replace(group, deployments=deployments, **_given(stated, OF_GROUPS), pods=pods, zone_spread=zone_spread)


def _given(stated: GroupValues, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(stated, name)) is not None}


def placed(values: Values, own: PodValues) -> PodValues:
    """Where pods of one kind run: what all pods have, and over it what these have."""
    fields = {name: getattr(values.pods if getattr(own, name) in (None, "") else own, name) for name in PodValues.model_fields}
    merged = {name: {**getattr(values.pods, name), **getattr(own, name)} for name in ("node_selector", "annotations", "labels")}
    return PodValues.model_construct(**{**fields, **merged})
