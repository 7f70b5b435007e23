"""The profiles: for each kind of cluster its nodes, the sizes of the models there, and the settings. The manifests come from these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kuberay.worker_groups import Deployment, Group, Model, Size, group_for_each, shared_group

NAME = "sonograph"
"""Name of the RayService, the application, the namespace, where the values have no other."""
IMPORT_PATH = "graphs.voice_to_image:app"
PORT = 8000
REDIS_SECRET = "sonograph-redis"
KEYS_SECRET = "sonograph-keys"
"""Its entry `keys` is the file of API keys, in the ingress's pods; the Secret is optional."""
KEYS = "/etc/sonograph"
OTLP_HEADERS, OTLP_CERTIFICATE = f"{KEYS}/otlp-headers", f"{KEYS}/otlp-certificate"
"""Other entries of that Secret: the headers of traces, since a collector's key belongs into no manifest, and its authority."""
OTLP_FILES = {
    "OTEL_EXPORTER_OTLP_HEADERS": ("headers", OTLP_HEADERS),
    "OTEL_EXPORTER_OTLP_CERTIFICATE": ("certificate_file", OTLP_CERTIFICATE),
}
"""By the variable: the setting of `tracing` that it becomes elsewhere, and its file here."""
WEIGHTS = "/opt/sonograph/share/sonograph"
"""Folder of the weights in an image: below the folder of its Python environment (deployments/paths.py)."""

SETTLE_S = 5
"""Wait of a deleted pod before it drains: its removal from the Service races with its end, and requests still arrive."""
POD_START_S = 300
"""Time for a pod to start in place of a deleted one, its model loaded: Serve keeps the old replica for it."""


@dataclass(frozen=True)
class Times:
    """Timeouts that have to outlast each other, from one number: the seconds that a request may take."""

    deadline_s: int

    @property
    def graceful_shutdown_s(self) -> int:
        """Serve's limit for a replica that stops: for its requests, and for Triton's stop, which takes up to 8 s."""
        return self.deadline_s + 15

    @property
    def drain_s(self) -> int:
        """Ray's limit for a deleted pod: until its replicas are replaced elsewhere, and then until they have stopped."""
        return POD_START_S + self.graceful_shutdown_s

    @property
    def idle_s(self) -> int:
        """Longest wait of a pod for its requests, once the head is gone."""
        return self.deadline_s + 30

    @property
    def termination_s(self) -> int:
        """Kubernetes kills a deleted pod after this time. Ray's processes have 25 s to end after the drain."""
        return SETTLE_S + self.drain_s + 25

    @property
    def request_timeout_s(self) -> int:
        """Serve's proxy ends a request without an answer after this time: its ingress has died."""
        return self.deadline_s + 60

    @property
    def deletion_delay_s(self) -> int:
        """Time for which KubeRay keeps the old cluster after an upgrade."""
        return self.deadline_s + 90


@dataclass(frozen=True)
class Node:
    """A kind of node that the profile is made for: its allocatable resources, and the largest number of such nodes."""

    name: str
    count: int
    cpu: float
    memory_gib: int
    gpus: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """The command of one container of the weights Job, run once."""

    model: str
    command: tuple[str, ...]


def _models(args: dict[str, Any]) -> list[Model]:
    """The models that the app deploys with these settings, by the app itself."""
    from deployments.model_spec import specs  # here, since it loads pydantic, and the app loads Ray
    from kuberay import app

    names = app.deployments(app.build({"import_path": IMPORT_PATH, "args": args}))
    return [(specs()[name], specs()[name].settings.model_validate(args.get(name, {}))) for name in names if name in specs()]


@dataclass(frozen=True)
class Profile:
    name: str
    summary: str
    measured: bool
    """True if the memory was measured, at these CPUs; otherwise all sizes are estimates."""
    sizes: dict[str, Size]
    """Sizes by model, in the order of the worker groups. Any other model has its description's `hardware`, and its group comes last."""
    nodes: tuple[Node, ...]
    args: dict[str, Any]
    """The application's settings."""
    weights: tuple[Weights, ...]
    weights_gib: int
    """Size of the volume that the Job fills; 0 where the images were built with their weights: then there is neither."""
    gpu: str = ""
    """Kubernetes' name of each model's GPU, or of the part of one; empty for none."""
    shared: str = ""
    """Name of the one worker group whose pods hold all models; empty where each model has a group of its own."""
    upgrade: Literal["NewCluster", "None"] = "NewCluster"
    """Effect of a change of the cluster: a second one beside it until that serves, or nothing, where the nodes hold only one."""
    service: str = NAME
    """Name of the RayService and of its application."""
    namespace: str = NAME
    head_cpu: float = 1.0
    head_memory_gib: int = 3
    """Measured: Ray's processes and Serve's controller hold 1.0 GiB."""
    idle_timeout_s: int = 300
    """Time after which the autoscaler ends a pod without a replica."""
    adjust: Callable[[Group], Group] = field(default=lambda group: group, repr=False)
    """The values' change of each worker group."""
    find_models: Callable[[dict[str, Any]], list[Model]] = field(default=_models, repr=False)
    """Function that finds the models that are deployed with these `args`."""

    @property
    def candidate(self) -> str:
        """Name of the second RayService and its application, beside the first in the namespace."""
        return f"{self.service}-candidate"

    @property
    def times(self) -> Times:
        return Times(self.args["http"]["deadline_s"])

    @property
    def models(self) -> list[Model]:
        """The deployed models: those of `sizes` in their order, then the others."""
        order = {name: number for number, name in enumerate(self.sizes)}
        return sorted(self.find_models(self.args), key=lambda model: order.get(model[0].name, len(order)))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The worker groups: the ingress' and the models'."""
        if self.shared:
            models: tuple[Group, ...] = (shared_group(self.shared, self.models, self.sizes, self.gpu),)
        else:
            models = group_for_each(self.models, self.sizes, self.gpu)
        return tuple(self.adjust(group) for group in (INGRESS, *models))

    def with_tracing(self, tracing: Mapping[str, Any]) -> "Profile":
        """This profile with further settings of the section `tracing`; its own args stay. Headers and certificates become files."""
        section = {name: value for name, value in tracing.items() if name != "headers"}
        if "headers" in tracing:
            section["headers_file"] = OTLP_HEADERS
        if "certificate_file" in tracing:
            section["certificate_file"] = OTLP_CERTIFICATE
        return replace(self, args={**self.args, "tracing": {**section, **self.args.get("tracing", {})}})

    def group_of(self, deployment: str) -> Group:
        (group,) = (group for group in self.groups if any(one.name == deployment for one in group.deployments))
        return group


AUTOSCALER_CPU = 0.5

INGRESS = Group("ingress", (Deployment("ingress", cpus=1, min_replicas=2, max_replicas=4, batch=15),), memory_gib=2)
"""Two pods, so that one can end at any time. Measured: replica 0.2, proxy 0.2, raylet and agents 0.2 GiB; 0.25 of recordings on top."""

GPU = "nvidia.com/gpu"
SD_TURBO = f"{WEIGHTS}/diffusion/sd-turbo"
SD_TURBO_COMMIT = "b261bac6fd2cf515557d5d0707481eafa0485ec2"
"""Of stabilityai/sd-turbo on the Hugging Face hub."""
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
    Weights(
        "diffusion",
        (
            *("hf", "download", "stabilityai/sd-turbo", "--revision", SD_TURBO_COMMIT),
            *("--exclude", "*.bin", "--local-dir", SD_TURBO),
        ),
    ),
)
CPU_NODE = Node("cpu", count=3, cpu=3.9, memory_gib=14)

CPU = Profile(
    "cpu",
    "no GPU: the small models of `make serve`, to try the cluster out",
    measured=True,
    sizes={
        # Measured: replica 0.2, stub 0.95, proxy 0.2, raylet and agents 0.2 GiB; the rest is Ray's object store.
        "whisper": Size(cpus=1, memory_gib=3, max_replicas=2),
        "diffusion": Size(cpus=2, memory_gib=3, max_replicas=2),
    },
    nodes=(Node("cpu", count=6, cpu=3.9, memory_gib=14),),
    args={"http": {"deadline_s": 120}, "whisper": {"model": "tiny.en"}},
    weights=(
        Weights("whisper", ("python", "-m", "deployments.whisper.weights", "tiny.en")),
    ),  # the drawing model ships with the image
    weights_gib=1,
)
SMALL_GPUS = Profile(
    "small-gpus",
    "one GPU of 16 GB (T4, L4) for each replica of a model",
    measured=False,
    sizes={
        "whisper": Size(cpus=2, memory_gib=10, max_replicas=2),
        "diffusion": Size(cpus=2, memory_gib=12, max_replicas=2),
    },
    nodes=(CPU_NODE, Node("t4", count=6, cpu=3.9, memory_gib=14, gpus={GPU: 1})),
    args=GPU_ARGS,
    weights=GPU_WEIGHTS,
    weights_gib=20,
    gpu=GPU,
)
ONE_GPU = Profile(
    "one-gpu",
    "one GPU of 24 GB or more that all models share; an update stops a replica before it starts the next",
    measured=False,
    sizes={
        "whisper": Size(cpus=2, memory_gib=8, gpus=0.3),
        "diffusion": Size(cpus=2, memory_gib=12, gpus=0.7),
    },
    nodes=(CPU_NODE, Node("gpu", count=1, cpu=7.9, memory_gib=28, gpus={GPU: 1})),
    args=GPU_ARGS,
    weights=GPU_WEIGHTS,
    weights_gib=20,
    gpu=GPU,
    shared="all",
    upgrade="None",
)
MIG = Profile(
    "mig",
    "parts of one A100 or H100 of 80 GB (MIG); for time slicing, write `nvidia.com/gpu.shared` for their names",
    measured=False,
    sizes={
        "whisper": Size(cpus=2, memory_gib=10, max_replicas=2),
        "diffusion": Size(cpus=2, memory_gib=12, gpu="nvidia.com/mig-2g.20gb"),
    },
    nodes=(
        CPU_NODE,
        Node("a100", count=1, cpu=23.5, memory_gib=160, gpus={"nvidia.com/mig-1g.10gb": 3, "nvidia.com/mig-2g.20gb": 2}),
    ),
    args=GPU_ARGS,
    weights=GPU_WEIGHTS,
    weights_gib=20,
    gpu="nvidia.com/mig-1g.10gb",
)
PROFILES = {profile.name: profile for profile in (CPU, SMALL_GPUS, ONE_GPU, MIG)}
