"""Values of what stands beside the worker groups: Redis, weights, the way in, upgrades, monitoring, network, nodes."""

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from deployments.settings import Section
from kuberay.parse import gateway_name, hostname, network_range
from kuberay.pod_values import Gibibytes, LabelValue, ObjectName, PodValues

type Percent = Annotated[int, Field(ge=1, le=100)]
REDIS_PORT = 6379
REDIS_IMAGE = "docker.io/library/redis:7.4.11-bookworm"
"""Redis 7.4 with the security fixes known in November 2026. Another line is a decision: 7.4 is under RSALv2 or SSPLv1, 8 also AGPLv3."""


class RedisValues(PodValues):
    """The Redis of Ray's control store."""

    address: str = Field(default="", pattern=r"^((redis|rediss)://)?[A-Za-z0-9._-]+:[0-9]{1,5}$|^$")
    """A Redis of yours: `host:port`, or `rediss://host:port` with TLS. Then none is rendered."""
    username: str = ""
    """User of that Redis; empty for its default one."""
    cidrs: list[str] = Field(default_factory=list)
    """Ranges of its addresses, which the policies let through; without one its port at any address."""
    secret: ObjectName = ""
    """Secret whose entry `password` is Redis' password; NAME-redis by default."""
    certificate: bool = False
    """Whether the Secret's entry `ca.crt` is the authority of Redis' certificate; else those of the image."""
    image: str = Field(default=REDIS_IMAGE, pattern=r"^[^\s]+$")
    """Image of the rendered Redis."""
    storage_class: ObjectName = ""
    """StorageClass of its volume; empty for the cluster's default."""
    size_gib: Gibibytes = 1
    """Size of its volume, in GiB."""

    _ranges = field_validator("cidrs")(lambda cidrs: [network_range(cidr) for cidr in cidrs])

    @model_validator(mode="after")
    def _of_yours(self) -> "RedisValues":
        if not 0 < self.port < 65536:
            raise ValueError(f"address: there is no port {self.port}")
        if not self.address and (self.username or self.cidrs or self.certificate):
            raise ValueError("username, cidrs and certificate are of a Redis of yours: give its address too")
        return self

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2]) if self.address else REDIS_PORT


class HubValues(Section):
    """The Hugging Face hub, for the weights' Job."""

    token_secret: ObjectName = ""
    """Secret whose entry `token` is the hub's token; empty for none."""
    endpoint: str = Field(default="", pattern=r"^(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[^\s]*)?)?$")
    """Address of a mirror of the hub; empty for the hub itself."""

    @field_validator("endpoint")
    @classmethod
    def _port(cls, endpoint: str) -> str:
        if urlsplit(endpoint).port == 0:  # one above 65535 raises ValueError
            raise ValueError("there is no port 0")
        return endpoint


class WeightsValues(PodValues):
    """The volume of the models' weights, and the Job that fills it."""

    size_gib: int = Field(default=0, ge=0)
    """Size of the volume, in GiB; 0 where the images carry their weights: then there is neither volume nor Job."""
    storage_class: ObjectName = ""
    """StorageClass of the volume, whose storage several nodes can mount; empty for the cluster's default."""
    claim: ObjectName = ""
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
    listener: ObjectName = ""
    """Listener of that Gateway that the route is for, the one with TLS; by default all."""
    gateway_class: ObjectName = ""
    """GatewayClass of a Gateway that is rendered: HTTPS on port 443, and HTTP on port 80, which is sent there."""
    tls_secret: ObjectName = ""
    """Secret with the Gateway's certificate; NAME-tls by default. cert-manager fills it where `annotations` name its issuer."""
    hostnames: list[str] = Field(default_factory=list, max_length=16)
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
        if not self.gateway_class and (self.tls_secret or self.annotations):
            raise ValueError("tls_secret and annotations are of a rendered Gateway: give its gateway_class too")
        if len(self.hostnames) != len(set(self.hostnames)):
            raise ValueError("hostnames: a name stands twice")
        return self


class ServiceValues(Section):
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the Service of requests."""


class UpgradeValues(Section):
    """The effect of a change of the cluster: images, Ray, pods."""

    RENAMED: ClassVar = {"interval_seconds": "upgrade.interval_s"}

    strategy: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"] = "NewCluster"
    """A second cluster beside it until that serves; the same, of which a gateway of KubeRay's takes over step by step; or nothing."""
    gateway_class: ObjectName = ""
    """GatewayClass of the gateway that KubeRay makes, for the incremental upgrade."""
    step_size_percent: Percent = 10
    """Requests that each step moves, for the incremental upgrade."""
    interval_s: int = Field(default=30, ge=1, le=86_400)
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
    runbooks: str = "docs/runbooks.md"
    """Address of docs/runbooks.md, for the alerts' links."""


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

    RENAMED: ClassVar = {"cpu": "nodes[].cpus"}

    name: LabelValue
    """Name of the kind: the layouts of its GPUs have it too."""
    count: int = Field(ge=1)
    """Largest number of such nodes."""
    cpus: int | float = Field(gt=0, le=10_000)
    """CPUs that Kubernetes may give away on one (`kubectl describe node`: Allocatable)."""
    memory_gib: int = Field(ge=1)
    """Memory of one, in GiB."""
    gpus: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Number by Kubernetes' name of each GPU, or part of one."""
