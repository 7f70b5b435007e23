"""Templates of pods: each of a folder, with its containers, as rules on any pod read them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from graphs.serve.autoscaler import parse_quantity
from kuberay.doctor.documents import Document
from kuberay.doctor.manifest import Service

CLUSTER = "spec.rayClusterConfig"
OF_KUBERAY = {"RayService": ("spec", "rayClusterConfig"), "RayCluster": ("spec",)}
"""Kinds that KubeRay makes pods of, and where the cluster is."""
PATHS = {
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
HEAD = "headgroup"
"""Group of the head, as KubeRay labels its pod."""
AUTOSCALER = "autoscaler"
AUTOSCALER_RESOURCES = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
"""Resources that KubeRay gives the autoscaler's container where `autoscalerOptions` has no resources."""
WAITING = "wait-gcs-ready"
WAITING_AMOUNTS = {"cpu": "200m", "memory": "256Mi"}
"""Resources that KubeRay gives the container that it adds to the start of a worker, whatever the manifest says."""


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """The mappings of a list, with their indexes; nothing of any other value."""
    return [(index, one) for index, one in enumerate(value if isinstance(value, list) else []) if isinstance(one, dict)]


def at(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        value = mapping(value).get(name)
    return mapping(value)


def amount(value: Any) -> Decimal | None:
    """The number of a quantity; None for one that is none."""
    try:
        found = parse_quantity(value)
    except (ValueError, ArithmeticError, TypeError, AttributeError):
        return None
    return found if found.is_finite() else None


def amounts(value: Any) -> dict[str, Decimal]:
    """The amounts of a mapping; those that are no quantities are left out."""
    return {str(name): found for name, one in mapping(value).items() if (found := amount(one)) is not None}


@dataclass(frozen=True)
class PodContainer:
    """A container of a template."""

    place: str
    content: dict[str, Any]
    init: bool = False
    ray: bool = False
    """Whether Ray runs in it: the first of a pod that KubeRay makes."""

    @property
    def name(self) -> str:
        return str(self.content.get("name", ""))

    @property
    def limits(self) -> dict[str, Decimal]:
        return amounts(mapping(self.content.get("resources")).get("limits"))

    @property
    def requests(self) -> dict[str, Decimal]:
        """The requested amounts; where only a limit is named, Kubernetes takes that."""
        return {**self.limits, **amounts(mapping(self.content.get("resources")).get("requests"))}

    @property
    def security(self) -> dict[str, Any]:
        return mapping(self.content.get("securityContext"))

    @property
    def env(self) -> list[tuple[int, dict[str, Any]]]:
        return mappings(self.content.get("env"))

    @property
    def ports(self) -> list[tuple[int, dict[str, Any]]]:
        return mappings(self.content.get("ports"))

    @property
    def mounts(self) -> list[tuple[int, dict[str, Any]]]:
        return mappings(self.content.get("volumeMounts"))

    @property
    def stays(self) -> bool:
        """Whether it runs beside the others, as every container does but one of the start."""
        return not self.init or self.content.get("restartPolicy") == "Always"


@dataclass(frozen=True)
class PodTemplate:
    """A template of pods."""

    document: Document
    place: str
    """Of the pod's specification."""
    spec: dict[str, Any]
    metadata: dict[str, Any]
    group: str = ""
    """Of a pod that KubeRay makes: HEAD or the worker group's name."""
    params: dict[str, Any] = field(default_factory=dict)
    """Its `rayStartParams`."""
    autoscaler: PodContainer | None = None
    """The container that KubeRay adds to the head."""
    count: int = 1
    """Pods at the start; of a DaemonSet, on each node."""

    def at(self, below: str) -> str:
        return f"{self.place}.{below}"

    @property
    def containers(self) -> list[PodContainer]:
        """Every container, those of the start first."""
        first = [
            PodContainer(self.at(f"initContainers[{i}]"), one, init=True) for i, one in mappings(self.spec.get("initContainers"))
        ]
        others = [
            PodContainer(self.at(f"containers[{i}]"), one, ray=bool(self.group) and i == 0)
            for i, one in mappings(self.spec.get("containers"))
        ]
        return [*first, *others, *([self.autoscaler] if self.autoscaler else [])]

    @property
    def every(self) -> list[PodContainer]:
        """Every container, that with which KubeRay's workers wait for the head too."""
        ray = self.ray
        if ray is None or self.group == HEAD:
            return self.containers
        content = {"name": WAITING, "resources": {"requests": WAITING_AMOUNTS, "limits": WAITING_AMOUNTS}}
        return [PodContainer(ray.place, content, init=True), *self.containers]

    @property
    def ray(self) -> PodContainer | None:
        return next((one for one in self.containers if one.ray), None)

    @property
    def volumes(self) -> list[tuple[int, dict[str, Any]]]:
        return mappings(self.spec.get("volumes"))

    @property
    def security(self) -> dict[str, Any]:
        return mapping(self.spec.get("securityContext"))

    @property
    def labels(self) -> dict[str, Any]:
        """Its pods' labels, with those that KubeRay adds and a manifest can know."""
        own = mapping(self.metadata.get("labels"))
        if not self.group:
            return own
        node_type = "head" if self.group == HEAD else "worker"
        return {**own, "ray.io/group": self.group, "ray.io/node-type": node_type, "ray.io/is-ray-node": "yes"}

    @property
    def namespace(self) -> str:
        return namespace(self.document)

    @property
    def requests(self) -> dict[str, Decimal]:
        """Amounts that Kubernetes keeps for a pod: of all that run together, or of a container of the start, whichever is more."""
        return self.taken(lambda one: one.requests)

    def taken(self, of: Callable[[PodContainer], dict[str, Decimal]]) -> dict[str, Decimal]:
        """The amounts of a pod, by those of each container."""
        running: dict[str, Decimal] = {}
        most: dict[str, Decimal] = {}
        for one in self.every:
            together = _sum(running, of(one))
            most = {name: max(together.get(name, Decimal(0)), most.get(name, Decimal(0))) for name in {**most, **together}}
            running = together if one.stays else running
        return _sum(most, amounts(self.spec.get("overhead")))


def _sum(one: dict[str, Decimal], other: dict[str, Decimal]) -> dict[str, Decimal]:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in {**one, **other}}


def namespace(document: Document) -> str:
    return str(document.metadata.get("namespace") or "")


def whole(value: Any, default: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def pod_templates(service: Service) -> Iterator[PodTemplate]:
    """Yield each template of the folder: the RayService's first."""
    for document in (service.document, *service.beside):
        yield from of_document(document)


def of_document(document: Document) -> Iterator[PodTemplate]:
    if document.kind in OF_KUBERAY:
        path = OF_KUBERAY[document.kind]
        yield from _of_kuberay(document, at(document.content, path), ".".join(path))
    elif document.kind in PATHS:
        path = PATHS[document.kind]
        template = at(document.content, path)
        if isinstance(template.get("spec"), dict):
            place = ".".join((*path, "spec"))
            yield PodTemplate(document, place, template["spec"], mapping(template.get("metadata")), count=_count(document))


def _count(document: Document) -> int:
    spec = document.spec
    if document.kind == "Job":
        most = whole(spec.get("parallelism"), 1)
        return 0 if spec.get("suspend") is True else min(most, whole(spec.get("completions"), most))
    if document.kind == "CronJob":
        return 0
    return whole(spec.get("replicas"), 1) if document.kind in ("Deployment", "StatefulSet", "ReplicaSet") else 1


def _of_kuberay(document: Document, cluster: dict[str, Any], place: str) -> Iterator[PodTemplate]:
    added = None
    if cluster.get("enableInTreeAutoscaling") is True:
        options = mapping(cluster.get("autoscalerOptions"))
        content = {"resources": AUTOSCALER_RESOURCES, **options, "name": AUTOSCALER}
        added = PodContainer(f"{place}.autoscalerOptions", content)
    head = mapping(cluster.get("headGroupSpec"))
    yield from _of_group(document, head, f"{place}.headGroupSpec", HEAD, added)
    for index, group in mappings(cluster.get("workerGroupSpecs")):
        name = str(group.get("groupName", ""))
        yield from _of_group(document, group, f"{place}.workerGroupSpecs[{index}]", name, None)


def _of_group(
    document: Document, group: dict[str, Any], place: str, name: str, added: PodContainer | None
) -> Iterator[PodTemplate]:
    template = mapping(group.get("template"))
    if not isinstance(template.get("spec"), dict):
        return
    least = 1 if name == HEAD else max(whole(group.get("minReplicas")), whole(group.get("replicas")))
    count = least * (1 if name == HEAD else whole(group.get("numOfHosts"), 1))
    params = mapping(group.get("rayStartParams"))
    metadata = mapping(template.get("metadata"))
    metadata = {**metadata, "labels": {**mapping(metadata.get("labels")), **mapping(group.get("labels"))}}
    yield PodTemplate(document, f"{place}.template.spec", template["spec"], metadata, name, params, added, count)
