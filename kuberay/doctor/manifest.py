"""RayServices as the doctor reads them: only the fields that a rule needs, each under Kubernetes' own name."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from kuberay import ray_autoscaler
from kuberay.doctor.documents import LOADER, Document
from kuberay.doctor.finding import ERROR, NOTE, Finding, Severity, rule
from kuberay.doctor.schema import path
from kuberay.doctor.untyped import at
from kuberay.images import versions
from kuberay.ray_autoscaler import UNBOUNDED, NodeType

type Quantity = str | int | float

SERVE_PORT = 8000
"""Port of Serve's proxies, and of KubeRay's probe and Service, where none is stated."""
OURS = "graphs."
"""Beginning of the import paths of this project's apps."""


class Part(BaseModel):
    """A part of a manifest; fields that it does not name are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class PodResources(Part):
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class Env(Part):
    name: str
    value: str | None = None


class Container(Part):
    name: str
    image: str
    env: list[Env] = []
    resources: PodResources = PodResources()
    lifecycle: dict[str, Any] = {}
    command: list[str] = []
    ports: list[dict[str, Any]] = []
    volume_mounts: list[dict[str, Any]] = []
    readiness_probe: dict[str, Any] = {}

    def port(self, name: str) -> int | None:
        """Return the number of the port of this name."""
        return next((one.get("containerPort") for one in self.ports if one.get("name") == name), None)

    def value(self, name: str) -> str | None:
        """Return the value of a variable; of several the last one, as Kubernetes does. None where it has none here."""
        return {one.name: one.value for one in self.env}.get(name)

    def mounts(self, path: str) -> bool:
        """Return whether the path is on a volume."""
        return any(PurePosixPath(path).is_relative_to(str(one.get("mountPath"))) for one in self.volume_mounts)


class PodSpec(Part):
    init_containers: list[Container] = []
    containers: list[Container] = Field(min_length=1)
    volumes: list[dict[str, Any]] = []
    restart_policy: str = ""
    termination_grace_period_seconds: int = 30


class TemplateMetadata(Part):
    labels: dict[str, str] = {}


class Template(Part):
    metadata: TemplateMetadata = TemplateMetadata()
    spec: PodSpec


class Group(Part):
    """The head group, or a worker group. Ray's container is the first."""

    resources: dict[str, str] = {}
    labels: dict[str, str] = {}
    ray_start_params: dict[str, str] = {}
    template: Template
    head_service: dict[str, Any] = {}

    @property
    def ray(self) -> Container:
        return self.template.spec.containers[0]

    @property
    def states_cpus(self) -> bool:
        """Whether the autoscaler finds the number of its CPUs; Ray itself takes those of the node."""
        amounts = self.ray.resources
        return "CPU" in self.resources or "num-cpus" in self.ray_start_params or "cpu" in {**amounts.limits, **amounts.requests}


class WorkerGroup(Group):
    group_name: str
    min_replicas: int = 0
    max_replicas: int = UNBOUNDED
    replicas: int | None = None
    suspend: bool = False
    idle_timeout_seconds: int | None = None
    priority: int | None = None
    scale_strategy: dict[str, Any] = {}


class AutoscalerOptions(Part):
    version: str = ""
    idle_timeout_seconds: int | None = None
    env: list[Env] = []
    resources: PodResources = PodResources()


class Cluster(Part):
    ray_version: str = ""
    enable_in_tree_autoscaling: bool = False
    autoscaler_options: AutoscalerOptions = AutoscalerOptions()
    auth_options: dict[str, Any] = {}
    gcs_fault_tolerance_options: dict[str, Any] | None = None
    network_policy: dict[str, Any] | None = None
    tls_options: dict[str, Any] | None = None
    history_server_options: dict[str, Any] | None = None
    upgrade_strategy: dict[str, Any] = {}
    suspend: bool = False
    managed_by: str = ""
    head_group_spec: Group
    worker_group_specs: list[WorkerGroup] = []


class Spec(Part):
    serve_config_v2: str = Field(alias="serveConfigV2")
    ray_cluster_config: Cluster
    ray_cluster_deletion_delay_seconds: int = 60
    exclude_head_pod_from_serve_svc: bool = False
    upgrade_strategy: dict[str, Any] = {}
    serve_service: dict[str, Any] | None = None
    suspend: bool = False
    managed_by: str = ""
    service_unhealthy_second_threshold: int | None = None
    deployment_unhealthy_second_threshold: int | None = None


class Metadata(Part):
    name: str
    annotations: dict[str, str] = {}


class RayService(Part):
    metadata: Metadata
    spec: Spec


@dataclass(frozen=True)
class Service:
    """One RayService, and the documents beside it in its folder."""

    document: Document
    beside: tuple[Document, ...]
    parsed: RayService

    @property
    def cluster(self) -> Cluster:
        return self.parsed.spec.ray_cluster_config

    @property
    def groups(self) -> list[WorkerGroup]:
        return self.cluster.worker_group_specs

    @cached_property
    def config(self) -> Any:
        """serveConfigV2; for every rule but the first, a mapping that Serve accepts."""
        return yaml.load(self.parsed.spec.serve_config_v2, Loader=LOADER)

    @property
    def port(self) -> int:
        """The port of Serve's proxies."""
        return serve_port(self.config)

    @property
    def applications(self) -> list[dict[str, Any]]:
        found = self.config.get("applications") if isinstance(self.config, dict) else None
        return found if isinstance(found, list) else []

    @property
    def pods(self) -> list[Group]:
        """The head group and the worker groups."""
        return [self.cluster.head_group_spec, *self.groups]

    @cached_property
    def is_ours(self) -> bool:
        """Whether an app, or an image, is this project's."""
        try:
            apps = any(str(one.get("import_path")).startswith(OURS) for one in self.applications)
        except Exception:  # a rule of its own reports it
            apps = False
        return apps or any(versions(group.ray.image) is not None for group in self.pods)

    def of_house(self, severity: Severity) -> Severity:
        """Return the severity of what only this project demands: a note where neither app nor images are its own."""
        return severity if self.is_ours else NOTE

    @cached_property
    def node_types(self) -> dict[str, NodeType]:
        """Groups as the autoscaler knows them; one CPU where a group states none. Raises Ray's error where it cannot read them."""
        content = self.document.content
        if any(not group.states_cpus for group in self.pods):
            content = copy.deepcopy(content)
            cluster = content["spec"]["rayClusterConfig"]
            for group, raw in zip(self.pods, [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])], strict=True):
                if not group.states_cpus:
                    raw["rayStartParams"] = {**group.ray_start_params, "num-cpus": "1"}
        return ray_autoscaler.node_types(content)

    def offers(self, group: WorkerGroup) -> dict[str, int]:
        """Ray's resources of one pod."""
        return self.node_types[group.group_name].resources

    def field(self, group: Group, below: str = "") -> str:
        index = next((index for index, other in enumerate(self.groups) if other is group), None)
        name = "headGroupSpec" if index is None else f"workerGroupSpecs[{index}]"
        return f"spec.rayClusterConfig.{name}" + (f".{below}" if below else "")

    def finding(self, rule: Callable[..., Any], field: str, sentence: str, severity: Severity = ERROR) -> Finding:
        return self.document.finding(rule, field, sentence, severity)


def serve_port(config: Any) -> int:
    """Return the port of Serve's proxies by this Serve config."""
    stated = str(at(config, "http_options", "port"))
    return int(stated) if stated.isdecimal() else SERVE_PORT


@rule(
    "SG012",
    "the fields that the doctor's rules read have the types that they need",
    "Write them as `kubectl explain rayservice.spec` has them.",
)
def a_ray_service_can_be_read(document: Document, beside: Sequence[Document]) -> Iterator[Service | Finding]:
    """Yield the RayService, or what is wrong with it."""
    try:
        yield Service(document, tuple(beside), RayService.model_validate(document.content))
    except ValidationError as error:
        for wrong in error.errors():
            yield document.finding(
                a_ray_service_can_be_read, path(wrong["loc"]), f"is not what KubeRay expects there: {wrong['msg']}"
            )
