"""Serve's deployments and KubeRay's worker groups, with the resources of each.

A worker group's name is also its image's. A deployment is pinned to its group twice: by a custom resource of its own name, one slot
for each replica, which the autoscaler counts; and by the label `image`, which names the image of the pod.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line loads pydantic only where it renders or examines
    from deployments.model_spec import ModelSettings, ModelSpec

type Model = tuple[ModelSpec, ModelSettings]
"""A model's description, and its section of the settings."""

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
    gpu: str = ""
    """Kubernetes' name of the GPU, or of the part of one, that each pod has; empty for none."""
    surge_percent: int = 50
    """Replicas beyond the target during an update, each in a pod of its own; 0 stops the old one first."""

    cpu_request: float | None = None
    """CPUs that Kubernetes keeps for a pod; None for those of its replicas and of the other processes."""

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
        gpu = {"GPU": "1"} if self.gpu else {}
        return {"CPU": str(self.cpus), **gpu, **{deployment.name: "1" for deployment in self.deployments}}

    @property
    def labels(self) -> dict[str, str]:
        return {"image": self.name}


@dataclass(frozen=True)
class Size:
    """A profile's choice for one model, in place of the `hardware` in the model's description."""

    cpus: int | None = None
    memory_gib: int | None = None
    gpus: float | None = None
    """GPUs of a replica; in a shared group its weight beside the other models'."""
    gpu: str | None = None
    """Kubernetes' name of the GPU, where it is not the profile's."""
    max_replicas: int = 1


@dataclass(frozen=True)
class _Sized:
    deployment: Deployment
    memory_gib: int
    gpu: str


def _sized(model: Model, sizes: Mapping[str, Size], gpu: str) -> _Sized:
    spec, settings = model
    size = sizes.get(spec.name, Size())
    gpu = gpu if size.gpu is None else size.gpu
    hardware = spec.hardware
    gpus = (hardware.gpus if size.gpus is None else size.gpus) if gpu else 0
    cpus = hardware.cpus if size.cpus is None else size.cpus
    deployment = Deployment(spec.name, cpus, gpus, max_replicas=size.max_replicas, batch=settings.max_batch)
    return _Sized(deployment, hardware.memory_gib if size.memory_gib is None else size.memory_gib, gpu if gpus else "")


def group_for_each(models: Sequence[Model], sizes: Mapping[str, Size], gpu: str) -> tuple[Group, ...]:
    """A worker group for each model, named as the model is."""
    sized = [_sized(model, sizes, gpu) for model in models]
    return tuple(Group(one.deployment.name, (one.deployment,), one.memory_gib, one.gpu) for one in sized)


def shared_group(name: str, models: Sequence[Model], sizes: Mapping[str, Size], gpu: str) -> Group:
    """One worker group whose pods hold a replica of every model and share one GPU, in proportion to the models' `gpus`.

    No second pod fits the GPU, so an update stops a replica before it starts the next.
    """
    sized = [_sized(model, sizes, gpu) for model in models]
    total = sum(one.deployment.gpus for one in sized)
    # Rounded down, so that the shares never exceed the GPU.
    deployments = tuple(
        replace(one.deployment, gpus=math.floor(one.deployment.gpus / total * 100 + 1e-6) / 100 if total else 0) for one in sized
    )
    return Group(name, deployments, sum(one.memory_gib for one in sized), gpu, surge_percent=0)
