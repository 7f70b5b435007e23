"""Values of one installation, and of a profile: the schema of both kinds of YAML files."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deployments.settings import Section
from kuberay.part_values import (
    MonitoringValues,
    NetworkValues,
    Node,
    RedisValues,
    RouteValues,
    ServiceValues,
    UpgradeValues,
    WeightsValues,
)
from kuberay.pod_values import Cpus, Gibibytes, Gpu, PodValues

LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
type Name = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=63)]
"""A name in Kubernetes."""
type InstanceName = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=37)]
"""Name of a RayService. KubeRay takes 47 characters, ten of them for the candidate."""
type Registry = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")]
type Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
type Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
type Seconds = Annotated[int | float, Field(ge=0, le=86_400)]


class ModelValues(Section):
    """The share of one model in a group of several. What is not given is the model's `hardware` (deployments/<model>/spec.py)."""

    cpus: int | None = Field(default=None, ge=1)
    """CPUs of a replica in Ray, and its torch threads."""
    memory_gib: Gibibytes | None = None
    """Memory that the group's pod has for it, in GiB."""
    gpus: float | None = Field(default=None, gt=0, le=64)
    """Its part of the pod's GPU, in proportion to the others'."""


class GroupValues(PodValues):
    """A worker group. Its pods hold one replica each of its deployments."""

    min_replicas: int | None = Field(default=None, ge=1)
    """Replicas without load."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Replicas under load; an update starts half as many more, each in a pod of its own."""
    cpus: int | None = Field(default=None, ge=1)
    """CPUs of a replica in Ray, and its torch threads; for a group of one deployment."""
    cpu_request: Cpus | None = None
    """CPUs that Kubernetes keeps for a pod: by default those of its replicas, and 0.25; the doctor objects to fewer than `cpus`."""
    memory_gib: Gibibytes | None = None
    """Memory of a pod, in GiB."""
    gpu: Gpu | None = None
    """GPU of a pod, where it is not that of all models."""
    zone_spread: Literal["", "ScheduleAnyway", "DoNotSchedule"] | None = None
    """Spread over zones, where it is not that of all groups."""
    upscale_delay_s: Seconds | None = None
    """Time that load lasts before Serve adds replicas, in seconds; 10 by default."""
    downscale_delay_s: Seconds | None = None
    """Time without load before Serve ends replicas, in seconds; 600 by default."""
    models: dict[str, ModelValues] = Field(default_factory=dict)
    """Of the group `all` only: parts of the models that share its pods. With them it holds all models, and no model has its own group."""


class HeadValues(PodValues):
    cpu_request: Cpus = 1
    """CPUs that Kubernetes keeps for the head, without the autoscaler's 0.5."""
    memory_gib: Gibibytes = 3
    """Memory of the head, in GiB. Measured: Ray's processes and Serve's controller hold 1.0."""


class Values(Section):
    name: InstanceName = "sonograph"
    """Name of the RayService and its Serve application, and the first part of the others' names; requests go to the Service
    NAME-serve-svc."""
    namespace: Name = "sonograph"
    """Namespace of all objects."""
    registry: Registry = "registry.example.com/sonograph"
    """Registry and folder of the images; the option `--registry` precedes it."""
    digests: dict[str, Digest] = Field(default_factory=dict)
    """Digests of the images by name, and that of `redis`; those of the option `--digests` precede them."""
    pull_secrets: list[Name] = Field(default_factory=list)
    """Secrets in the namespace with the registry's password."""
    pods: PodValues = Field(default_factory=PodValues)
    """All pods."""
    head: HeadValues = Field(default_factory=HeadValues)
    """The head."""
    gpu: Gpu = Field(default_factory=lambda: Gpu(count=0))
    """GPU of each pod of a model."""
    zone_spread: Literal["", "ScheduleAnyway", "DoNotSchedule"] = ""
    """Spread of each group's pods over zones: not at all, where possible, or always."""
    groups: dict[str, GroupValues] = Field(default_factory=dict)
    """Worker groups by name: `ingress`, and one for each model."""
    idle_timeout_s: int = Field(default=300, ge=1, le=86_400)
    """Time after which the autoscaler ends a pod without a replica, in seconds."""
    redis: RedisValues = Field(default_factory=RedisValues)
    """The Redis of Ray's control store."""
    weights: WeightsValues = Field(default_factory=WeightsValues)
    """The models' weights."""
    service: ServiceValues = Field(default_factory=ServiceValues)
    """The Service of requests."""
    route: RouteValues = Field(default_factory=RouteValues)
    """The way in from outside."""
    upgrade: UpgradeValues = Field(default_factory=UpgradeValues)
    """Upgrades."""
    monitoring: MonitoringValues = Field(default_factory=MonitoringValues)
    """Metrics and alerts."""
    network: NetworkValues = Field(default_factory=NetworkValues)
    """Network policies."""
    nodes: list[Node] = Field(default_factory=list)
    """Nodes that the installation is made for, which the doctor packs the pods onto."""
    quota: dict[str, Quantity] = Field(default_factory=dict)
    """Limits of a ResourceQuota, such as `requests.cpu: "40"`; without any there is none."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The service's settings (docs/settings.md)."""
    summary: str = ""
    """Purpose of the profile, in its manifests' first lines."""
    measured: bool = False
    """Whether the memory was measured, at these CPUs; otherwise all sizes are estimates."""
