"""The graph on a cluster, typed: what each worker group carries, offers and asks, and on which nodes. The manifests come from this.

A *group* is KubeRay's worker group; its name is also its image's. A deployment is pinned to its group twice: by a custom resource
of its own name, one slot for each replica, which the autoscaler counts; and by the label `image`, which says which image that is.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

NAME = "sonograph"
"""Of the RayService, the application, the namespace."""
IMPORT_PATH = "graphs.voice_to_image:app"
PORT = 8000
REDIS_SECRET = "sonograph-redis"
KEYS_SECRET = "sonograph-keys"
"""Its entry `keys` is the file of API keys, in the ingress's pods; there need be none."""
KEYS = "/etc/sonograph"
WEIGHTS = "/opt/sonograph/share/sonograph"
"""Where an image looks for weights: below the folder of its Python environment (deployments/base.py)."""

RELEASE = "0.1.0"
RAY = "2.60.0"
PYTHON = "3.12.3"
"""Ubuntu 24.04's, which NVIDIA's image is made of too: Ray refuses nodes whose patch versions differ."""
TRITON, TRITON_WHEEL = "26.07", "2.71.0"
"""NVIDIA's image, and the `tritonserver` package in it, which images/triton.lock has too."""
TAG = f"{RELEASE}-ray{RAY}-py{PYTHON}"
"""The doctor reads the versions of an image from its tag."""

POD_CPU = 0.25
"""CPUs of what runs in every pod beside its replicas: raylet, agents, Serve's proxy."""


@dataclass(frozen=True)
class Times:
    """Everything that has to outlast something else, from one number: the seconds that a request may take."""

    deadline_s: int

    @property
    def graceful_shutdown_s(self) -> int:
        """Serve gives a replica so long for its requests, and for Triton's stop, which takes up to 8 s."""
        return self.deadline_s + 15

    @property
    def drain_s(self) -> int:
        """A pod that is to go waits so long until its ingress has no request left."""
        return self.deadline_s + 30

    @property
    def termination_s(self) -> int:
        """Kubernetes kills the pod then."""
        return self.deadline_s + 60

    @property
    def request_timeout_s(self) -> int:
        """Serve's proxy ends what has no answer by then: a request whose ingress has died."""
        return self.deadline_s + 60

    @property
    def deletion_delay_s(self) -> int:
        """KubeRay keeps the old cluster so long after an upgrade."""
        return self.deadline_s + 90


@dataclass(frozen=True)
class Deployment:
    """One of Serve's. Its replicas' torch threads are its `cpus`."""

    name: str
    cpus: int
    gpus: float = 0
    min_replicas: int = 1
    max_replicas: int = 1
    batch: int = 1
    """Requests that it works on at once."""

    @property
    def target_ongoing_requests(self) -> int:
        """Autoscaling aims at a full batch and one that waits. An ingress gives a replica more (`at_once`), so overload shows."""
        return self.batch + 1


@dataclass(frozen=True)
class Group:
    name: str
    deployments: tuple[Deployment, ...]
    memory_gib: int
    gpu: str = ""
    """Kubernetes' name of the GPU, or of the part of one, that each pod has; empty for none."""
    surge_percent: int = 50
    """Replicas beyond the target while an update goes on, each in a pod of its own; 0 stops the old one first."""

    @property
    def cpus(self) -> int:
        """Ray's, of a pod: one replica of each deployment."""
        return sum(deployment.cpus for deployment in self.deployments)

    @property
    def min_pods(self) -> int:
        return max(deployment.min_replicas for deployment in self.deployments)

    @property
    def max_pods(self) -> int:
        most = max(deployment.max_replicas for deployment in self.deployments)
        return most + math.ceil(most * self.surge_percent / 100)

    @property
    def resources(self) -> dict[str, str]:
        """What Ray counts on a pod. GPU is always stated: for parts of one, Ray's autoscaler would not see it."""
        gpu = {"GPU": "1"} if self.gpu else {}
        return {"CPU": str(self.cpus), **gpu, **{deployment.name: "1" for deployment in self.deployments}}

    @property
    def labels(self) -> dict[str, str]:
        return {"image": self.name}


@dataclass(frozen=True)
class Node:
    """A kind of node that the profile is made for: what Kubernetes can allocate on it, and how many there are at most."""

    name: str
    count: int
    cpu: float
    memory_gib: int
    gpus: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """What one container of the weights Job runs, once."""

    room: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    name: str
    summary: str
    measured: bool
    """Whether the memory was measured, at the CPUs that are given; else all figures are estimates."""
    groups: tuple[Group, ...]
    nodes: tuple[Node, ...]
    args: dict[str, Any]
    """The application's settings."""
    weights: tuple[Weights, ...]
    weights_gib: int
    """Of the volume that the Job fills; 0 where the images were built with their weights: then there is neither."""

    upgrade: Literal["NewCluster", "None"] = "NewCluster"
    """What a change of the cluster does: a second one beside it until that serves, or nothing, where the nodes hold but one."""

    @property
    def times(self) -> Times:
        return Times(self.args["http"]["deadline_s"])

    def group_of(self, room: str) -> Group:
        (group,) = (group for group in self.groups if any(deployment.name == room for deployment in group.deployments))
        return group


HEAD_CPU, HEAD_MEMORY_GIB, AUTOSCALER_CPU = 1.0, 3, 0.5
"""Measured: Ray's processes and Serve's controller hold 1.0 GiB."""

HEARD_AT_ONCE, DRAWN_AT_ONCE = 8, 8
"""`whisper.max_batch`, `diffusion.max_batch`."""

INGRESS = Group("ingress", (Deployment("ingress", cpus=1, min_replicas=2, max_replicas=4, batch=15),), memory_gib=2)
"""Two, so that one can go at any time. Measured: replica 0.2, proxy 0.2, raylet and agents 0.2 GiB; 0.25 of recordings on top."""

SD_TURBO = f"{WEIGHTS}/diffusion/sd-turbo"
GPU_ARGS: dict[str, Any] = {
    "http": {"deadline_s": 120},
    "whisper": {"model": "small.en", "device": "cuda"},
    "diffusion": {"model": SD_TURBO, "device": "cuda", "steps": 2, "guidance_scale": 0, "max_side_px": 512},
}
GPU_WEIGHTS = (
    Weights(
        "whisper",
        (
            *("python", "-c", "import sys, whisper; whisper.load_model(sys.argv[1], device='cpu', download_root=sys.argv[2])"),
            *("small.en", f"{WEIGHTS}/whisper"),
        ),
    ),
    Weights("diffusion", ("hf", "download", "stabilityai/sd-turbo", "--exclude", "*.bin", "--local-dir", SD_TURBO)),
)
CPU_NODE = Node("cpu", count=3, cpu=3.9, memory_gib=14)

CPU = Profile(
    "cpu",
    "no GPU: the small models of `make serve`, to try the cluster out",
    measured=True,
    groups=(
        INGRESS,
        # Measured: replica 0.2, stub 0.95, proxy 0.2, raylet and agents 0.2 GiB; the rest is Ray's object store.
        Group("whisper", (Deployment("whisper", cpus=1, max_replicas=2, batch=HEARD_AT_ONCE),), memory_gib=3),
        Group("diffusion", (Deployment("diffusion", cpus=2, max_replicas=2, batch=DRAWN_AT_ONCE),), memory_gib=3),
    ),
    nodes=(Node("cpu", count=6, cpu=3.9, memory_gib=14),),
    args={"http": {"deadline_s": 120}, "whisper": {"model": "tiny.en"}},
    weights=(
        Weights("whisper", ("python", "-m", "deployments.whisper.weights", "tiny.en")),
    ),  # the other model ships with the image
    weights_gib=1,
)
SMALL_GPUS = Profile(
    "small-gpus",
    "one GPU of 16 GB (T4, L4) for each replica of a room",
    measured=False,
    groups=(
        INGRESS,
        Group(
            "whisper",
            (Deployment("whisper", cpus=2, gpus=1, max_replicas=2, batch=HEARD_AT_ONCE),),
            memory_gib=10,
            gpu="nvidia.com/gpu",
        ),
        Group(
            "diffusion",
            (Deployment("diffusion", cpus=2, gpus=1, max_replicas=2, batch=DRAWN_AT_ONCE),),
            memory_gib=12,
            gpu="nvidia.com/gpu",
        ),
    ),
    nodes=(CPU_NODE, Node("t4", count=6, cpu=3.9, memory_gib=14, gpus={"nvidia.com/gpu": 1})),
    args=GPU_ARGS,
    weights=GPU_WEIGHTS,
    weights_gib=20,
)
ONE_GPU = Profile(
    "one-gpu",
    "one GPU of 24 GB or more that both rooms share; an update stops a replica before it starts the next",
    measured=False,
    groups=(
        INGRESS,
        Group(
            "all",
            (
                Deployment("whisper", cpus=2, gpus=0.3, batch=HEARD_AT_ONCE),
                Deployment("diffusion", cpus=2, gpus=0.7, batch=DRAWN_AT_ONCE),
            ),
            memory_gib=20,
            gpu="nvidia.com/gpu",
            surge_percent=0,
        ),
    ),
    nodes=(CPU_NODE, Node("gpu", count=1, cpu=7.9, memory_gib=28, gpus={"nvidia.com/gpu": 1})),
    args=GPU_ARGS,
    weights=GPU_WEIGHTS,
    weights_gib=20,
    upgrade="None",
)
MIG = Profile(
    "mig",
    "parts of one A100 or H100 of 80 GB (MIG); for time slicing, write `nvidia.com/gpu.shared` for their names",
    measured=False,
    groups=(
        INGRESS,
        Group(
            "whisper",
            (Deployment("whisper", cpus=2, gpus=1, max_replicas=2, batch=HEARD_AT_ONCE),),
            memory_gib=10,
            gpu="nvidia.com/mig-1g.10gb",
        ),
        Group(
            "diffusion",
            (Deployment("diffusion", cpus=2, gpus=1, batch=DRAWN_AT_ONCE),),
            memory_gib=12,
            gpu="nvidia.com/mig-2g.20gb",
        ),
    ),
    nodes=(
        CPU_NODE,
        Node("a100", count=1, cpu=23.5, memory_gib=160, gpus={"nvidia.com/mig-1g.10gb": 3, "nvidia.com/mig-2g.20gb": 2}),
    ),
    args=GPU_ARGS,
    weights=GPU_WEIGHTS,
    weights_gib=20,
)
PROFILES = {profile.name: profile for profile in (CPU, SMALL_GPUS, ONE_GPU, MIG)}

LOCAL = (
    Deployment("ingress", cpus=0),
    Deployment("whisper", cpus=1, batch=HEARD_AT_ONCE),
    Deployment("diffusion", cpus=1, batch=DRAWN_AT_ONCE),
)
"""One machine, all of it: `make serve`."""
LOCAL_TIMES = Times(120)
"""http.deadline_s is at its default there."""
