"""Values of one installation, and of a profile: the schema of both kinds of YAML files."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from deployments.settings import Section
from kuberay.parse import gateway_name, hostname, network_range

LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
type Name = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=63)]
"""A name in Kubernetes."""
type InstanceName = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=37)]
"""Name of a RayService. KubeRay takes 47 characters, ten of them for the candidate."""
type Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
type Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
type Cpus = Annotated[int | float, Field(gt=0, le=1000)]
type Gibibytes = Annotated[int, Field(ge=1, le=100_000)]
type Percent = Annotated[int, Field(ge=1, le=100)]
type Seconds = Annotated[int | float, Field(ge=0, le=86_400)]
GPU = "nvidia.com/gpu"
REDIS_IMAGE = "docker.io/library/redis:7.4.11-bookworm"
"""Redis 7.4 with the security fixes known in November 2026. Another line is a decision: 7.4 is under RSALv2 or SSPLv1, 8 also AGPLv3."""


class Toleration(Section):
    """A toleration as Kubernetes writes it."""

    model_config = ConfigDict(alias_generator=to_camel)

    key: str = ""
    operator: Literal["Exists", "Equal", "Lt", "Gt"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = None


class Affinity(Section):
    """Rules of affinity as Kubernetes writes them."""

    model_config = ConfigDict(alias_generator=to_camel)

    node_affinity: dict[str, Any] | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class PodValues(Section):
    """Where pods run. What `pods` says is for all; the head, Redis, the weights' Job and each group may say otherwise."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes."""
    affinity: Affinity | None = None
    """`nodeAffinity`, `podAffinity` and `podAntiAffinity`, as Kubernetes writes them."""
    tolerations: list[Toleration] | None = None
    """Taints that the pods tolerate, as Kubernetes writes them, beside those of NVIDIA's GPUs."""
    priority_class: str = ""
    """Name of a PriorityClass."""
    runtime_class: str = ""
    """Name of a RuntimeClass, such as `nvidia` where that is not the nodes' default."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the pods."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Further labels of the pods."""


class Gpu(Section):
    """The GPU of a pod, or a part of one."""

    count: int = Field(default=1, ge=0, le=64)
    """GPUs of a pod; 0 for none."""
    resource: str = Field(default=GPU, pattern=r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$")
    """Kubernetes' name of a GPU."""
    mig_profile: str = Field(default="", pattern=r"^([1-7]g\.[0-9]+gb)?$")
    """Part of a GPU by MIG, such as `1g.10gb`: the pod's resource is then `nvidia.com/mig-1g.10gb`."""
    time_slicing_replicas: int | None = Field(default=None, ge=2, le=48)
    """Pods that share a GPU by time slicing: the pod's resource is then `nvidia.com/gpu.shared`."""

    @model_validator(mode="after")
    def _one_way_to_share(self) -> "Gpu":
        if self.mig_profile and self.time_slicing_replicas:
            raise ValueError("mig_profile and time_slicing_replicas exclude each other: a GPU is shared in one way")
        if self.mig_profile and self.resource != GPU:
            raise ValueError("resource follows from mig_profile: leave it out")
        return self

    @property
    def name(self) -> str:
        """Kubernetes' name of what a pod requests; empty for none."""
        if not self.count:
            return ""
        if self.mig_profile:
            return f"nvidia.com/mig-{self.mig_profile}"
        return f"{self.resource}.shared" if self.time_slicing_replicas else self.resource


class ModelValues(Section):
    """The share of one model in a group of several. What is not given is the model's `hardware` (deployments/<model>/spec.py)."""

    cpus: int | None = Field(default=None, ge=1)
    """CPUs of a replica in Ray, and its torch threads."""
    memory_gib: Gibibytes | None = None
    """Memory that the group's pod has for it, in GiB."""
    gpus: float | None = Field(default=None, gt=0)
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


class RedisValues(PodValues):
    """The Redis of Ray's control store."""

    address: str = Field(default="", pattern=r"^((redis|rediss)://)?[A-Za-z0-9._-]+:[0-9]{1,5}$|^$")
    """A Redis of yours: `host:port`, or `rediss://host:port` with TLS. Then none is rendered."""
    username: str = ""
    """User of that Redis; empty for its default one."""
    cidrs: list[str] = Field(default_factory=list)
    """Ranges of its addresses, which the policies let through; without one its port at any address."""
    secret: str = ""
    """Secret whose entry `password` is Redis' password; NAME-redis by default."""
    certificate: bool = False
    """Whether the Secret's entry `ca.crt` is the authority of Redis' certificate; else those of the image."""
    image: str = REDIS_IMAGE
    """Image of the rendered Redis."""
    storage_class: str = ""
    """StorageClass of its volume; empty for the cluster's default."""
    size_gib: Gibibytes = 1
    """Size of its volume, in GiB."""

    _ranges = field_validator("cidrs")(lambda cidrs: [network_range(cidr) for cidr in cidrs])

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2]) if self.address else 6379

    @property
    def tls(self) -> bool:
        return self.address.startswith("rediss://")


class HubValues(Section):
    """The Hugging Face hub, for the weights' Job."""

    token_secret: str = ""
    """Secret whose entry `token` is the hub's token; empty for none."""
    endpoint: str = Field(default="", pattern=r"^(https?://[^\s]+)?$")
    """Address of a mirror of the hub; empty for the hub itself."""


class WeightsValues(PodValues):
    """The volume of the models' weights, and the Job that fills it."""

    size_gib: int = Field(default=0, ge=0)
    """Size of the volume, in GiB; 0 where the images carry their weights: then there is neither volume nor Job."""
    storage_class: str = ""
    """StorageClass of the volume, whose storage several nodes can mount; empty for the cluster's default."""
    claim: str = ""
    """A PersistentVolumeClaim of yours in the namespace, instead of a rendered one."""
    fetch: dict[str, list[str]] = Field(default_factory=dict)
    """Command by model that fetches its weights, `{model}` being the setting `model` of it; without any there is no Job, and the
    claim holds them already."""
    hub: HubValues = Field(default_factory=HubValues)
    """The Hugging Face hub."""

    @field_validator("fetch")
    @classmethod
    def _commands(cls, fetch: dict[str, list[str]]) -> dict[str, list[str]]:
        for model, command in fetch.items():
            if not command:
                raise ValueError(f"the command of {model} is empty: leave {model} out, or name a program")
        return fetch


class RouteValues(Section):
    """The Gateway API's HTTPRoute, the way in from outside; with none of these there is none."""

    gateway: str = ""
    """[NAMESPACE/]NAME of a Gateway of yours."""
    listener: str = ""
    """Listener of that Gateway that the route is for, the one with TLS; by default all."""
    gateway_class: str = ""
    """GatewayClass of a Gateway that is rendered: HTTPS on port 443, and HTTP on port 80, which is sent there."""
    tls_secret: str = ""
    """Secret with the Gateway's certificate; NAME-tls by default. cert-manager fills it where `annotations` name its issuer."""
    hostnames: list[str] = Field(default_factory=list)
    """Hosts that the route is for; by default all."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the rendered Gateway."""

    _gateway = field_validator("gateway")(lambda text: gateway_name(text) if text else "")
    _hostnames = field_validator("hostnames")(lambda names: [hostname(name) for name in names])

    @model_validator(mode="after")
    def _one_gateway(self) -> "RouteValues":
        if self.gateway and self.gateway_class:
            raise ValueError("gateway and gateway_class exclude each other: a Gateway of yours, or a rendered one")
        if self.gateway_class and not self.hostnames:
            raise ValueError("a rendered Gateway needs hostnames: its certificate is for them")
        return self


class ServiceValues(Section):
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the Service of requests."""


class UpgradeValues(Section):
    """The effect of a change of the cluster: images, Ray, pods."""

    strategy: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"] = "NewCluster"
    """A second cluster beside it until that serves; the same, of which a gateway of KubeRay's takes over step by step; or nothing."""
    gateway_class: str = ""
    """GatewayClass of the gateway that KubeRay makes, for the incremental upgrade."""
    step_size_percent: Percent = 10
    """Requests that each step moves, for the incremental upgrade."""
    interval_seconds: int = Field(default=30, ge=1, le=86_400)
    """Time between two steps, in seconds, for the incremental upgrade."""
    max_surge_percent: Percent = 100
    """Size of the second cluster, in percent of the first, from which requests move, for the incremental upgrade."""

    @model_validator(mode="after")
    def _gateway(self) -> "UpgradeValues":
        if (self.strategy == "NewClusterWithIncrementalUpgrade") != bool(self.gateway_class):
            raise ValueError("NewClusterWithIncrementalUpgrade and gateway_class need each other")
        return self


class MonitoringValues(Section):
    enabled: bool = True
    """Whether to render the PodMonitor and the alerts, which need the Prometheus operator."""
    labels: dict[str, str] = Field(default_factory=lambda: {"release": "kube-prometheus-stack"})
    """Labels by which the cluster's Prometheus selects them: kube-prometheus-stack's own selects `release`, its Helm release."""
    runbooks: str = "docs/operations.md"
    """Address of docs/operations.md, for the alerts' links."""


class NetworkValues(Section):
    dns_cidrs: list[str] = Field(default_factory=list)
    """DNS resolvers that the policies do not name already: addresses or ranges."""
    api_cidrs: list[str] = Field(default_factory=list)
    """Ranges of the Kubernetes API's addresses, which the head may reach; by default any address."""
    api_ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default_factory=lambda: [443, 6443], min_length=1)
    """Ports of the Kubernetes API behind its Service; 16443 for MicroK8s, 8443 for minikube."""

    _ranges = field_validator("dns_cidrs", "api_cidrs")(lambda cidrs: [network_range(cidr) for cidr in cidrs])


class Node(Section):
    """A kind of node: its allocatable resources, and the largest number of such nodes."""

    name: str
    count: int = Field(ge=1)
    cpu: int | float = Field(gt=0)
    memory_gib: int = Field(ge=1)
    gpus: dict[str, int] = Field(default_factory=dict)
    """Number by Kubernetes' name of each GPU, or part of one."""


class Values(Section):
    name: InstanceName = "sonograph"
    """Name of the RayService and its Serve application, and the first part of the others' names; requests go to the Service
    NAME-serve-svc."""
    namespace: Name = "sonograph"
    """Namespace of all objects."""
    registry: str = "registry.example.com/sonograph"
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
    """What the profile is for, in its manifests' first lines."""
    measured: bool = False
    """Whether the memory was measured, at these CPUs; otherwise all sizes are estimates."""
