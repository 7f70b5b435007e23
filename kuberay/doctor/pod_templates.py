"""Templates of pods: each of a folder, with its containers, labels, ports and number, as rules on any pod read them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.manifest import Service
from kuberay.doctor.selectors import ANY
from kuberay.doctor.untyped import amounts, at, mapping, mappings, texts, whole
from kuberay.manifest import objects
from kuberay.ray_autoscaler import HEAD

CLUSTER = "spec.rayClusterConfig"
OF_KUBERAY = {"RayService": ("spec", "rayClusterConfig"), "RayCluster": ("spec",)}
"""Kinds that KubeRay makes pods of, and where the cluster is."""
PATHS = {
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
METRICS = ("metrics", objects.PORTS["metrics"])
"""The port that KubeRay adds to each of Ray's containers that does not name it."""
MADE_BY_KUBERAY = {
    "app.kubernetes.io/name": "kuberay",
    "app.kubernetes.io/created-by": "kuberay-operator",
    "ray.io/identifier": ANY,
}
"""Labels of all that KubeRay makes for a cluster."""
AUTOSCALER = "autoscaler"
AUTOSCALER_RESOURCES = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
"""Resources that KubeRay gives the autoscaler's container where `autoscalerOptions` has no resources."""
WAITING = "wait-gcs-ready"
WAITING_AMOUNTS = {"cpu": "200m", "memory": "256Mi"}
"""Resources that KubeRay gives the container that it adds to the start of a worker, whatever the manifest says."""


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
class Count:
    """Number of the pods of a template; of a DaemonSet, on each node."""

    start: int
    """Pods at the start."""
    least: int
    """Pods without load."""
    most: int
    """Pods under load; of a CronJob, those of a run."""

    @classmethod
    def fixed(cls, number: int) -> "Count":
        return cls(number, number, number)


ONE = Count.fixed(1)


@dataclass(frozen=True)
class PodTemplate:
    """A template of pods."""

    document: Document
    place: str
    """Of the pod's specification."""
    spec: dict[str, Any]
    labels: dict[str, str]
    """Of its pods, with those that KubeRay adds."""
    count: Count = ONE
    node_type: str = ""
    """`head` or `worker`; empty where the pods are not Ray's."""
    group: str = ""
    """Of a pod that KubeRay makes: HEAD or the worker group's name."""
    params: dict[str, Any] = field(default_factory=dict)
    """Its `rayStartParams`."""
    autoscaler: PodContainer | None = None
    """The container that KubeRay adds to the head."""

    def at(self, below: str) -> str:
        return f"{self.place}.{below}"

    @property
    def name(self) -> str:
        """For sentences."""
        return {"head": "the head", "worker": f"the group {self.group}"}.get(self.node_type, self.document.title)

    @property
    def namespace(self) -> str:
        return self.document.namespace

    @cached_property
    def containers(self) -> list[PodContainer]:
        """Every container, those of the start first."""
        first = [
            PodContainer(self.at(f"initContainers[{i}]"), one, init=True) for i, one in mappings(self.spec.get("initContainers"))
        ]
        others = [
            PodContainer(self.at(f"containers[{i}]"), one, ray=bool(self.node_type) and i == 0)
            for i, one in mappings(self.spec.get("containers"))
        ]
        return [*first, *others, *([self.autoscaler] if self.autoscaler else [])]

    @property
    def every(self) -> list[PodContainer]:
        """Every container, that with which KubeRay's workers wait for the head too."""
        ray = self.ray
        if ray is None or self.node_type == "head":
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
    def ports(self) -> dict[str, int]:
        """The declared ports by name; one without a name under its number."""
        found = {METRICS[0]: METRICS[1]} if self.node_type else {}
        for one in self.containers:
            for _, port in one.ports:
                if isinstance(port.get("containerPort"), int):
                    found[str(port.get("name", port["containerPort"]))] = port["containerPort"]
        return found

    def port(self, port: Any) -> int | None:
        """Return the number of a port, which may be a name; None for one that no container has."""
        return port if isinstance(port, int) else self.ports.get(str(port))

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


def pod_templates(service: Service) -> list[PodTemplate]:
    """Return each template of the folder: the RayService's first."""
    return [template for document in (service.document, *service.beside) for template in of_document(document)]


def of_document(document: Document) -> Iterator[PodTemplate]:
    if document.kind in OF_KUBERAY:
        yield from _of_kuberay(document)
    elif document.kind in PATHS:
        path = PATHS[document.kind]
        template = at(document.content, *path)
        spec = at(template, "spec")
        if isinstance(spec, dict):
            labels = texts(at(template, "metadata", "labels"))
            yield PodTemplate(document, ".".join((*path, "spec")), spec, labels, _count(document))


def _count(document: Document) -> Count:
    spec = document.spec
    if document.kind == "CronJob":
        return Count(0, 0, _of_job(at(spec, "jobTemplate", "spec")))
    if document.kind == "Job":
        most = _of_job(spec)
        return Count(0, 0, most) if spec.get("suspend") is True else Count.fixed(most)
    return Count.fixed(whole(spec.get("replicas"), 1) if document.kind in ("Deployment", "StatefulSet", "ReplicaSet") else 1)


def _of_job(spec: Any) -> int:
    """Pods of a Job that run together."""
    most = whole(at(spec, "parallelism"), 1)
    return min(most, whole(at(spec, "completions"), most))


def _of_kuberay(document: Document) -> Iterator[PodTemplate]:
    path = OF_KUBERAY[document.kind]
    cluster, place = mapping(at(document.content, *path)), ".".join(path)
    autoscaled, added = cluster.get("enableInTreeAutoscaling") is True, None
    if autoscaled:
        content = {"resources": AUTOSCALER_RESOURCES, **mapping(cluster.get("autoscalerOptions")), "name": AUTOSCALER}
        added = PodContainer(f"{place}.autoscalerOptions", content)
    groups = [("head", HEAD, f"{place}.headGroupSpec", mapping(cluster.get("headGroupSpec")))]
    groups += [
        ("worker", str(group.get("groupName", "")), f"{place}.workerGroupSpecs[{index}]", group)
        for index, group in mappings(cluster.get("workerGroupSpecs"))
    ]
    for node_type, name, field_, group in groups:
        spec = at(group, "template", "spec")
        if isinstance(spec, dict):
            yield PodTemplate(
                document,
                f"{field_}.template.spec",
                spec,
                _labels(document, node_type, name, group),
                _of_group(group, autoscaled) if node_type == "worker" else ONE,
                node_type,
                name,
                mapping(group.get("rayStartParams")),
                added if node_type == "head" else None,
            )


def _of_group(group: dict[str, Any], autoscaled: bool) -> Count:
    """Return the number of a worker group's pods: KubeRay begins with `replicas`, and Ray's autoscaler alone goes below it."""
    hosts, least = whole(group.get("numOfHosts"), 1), whole(group.get("minReplicas"))
    start = max(least, whole(group.get("replicas")))
    most = max(start, whole(group.get("maxReplicas"), start))
    return Count(start * hosts, least * hosts, most * hosts) if autoscaled else Count.fixed(start * hosts)


def _labels(document: Document, node_type: str, name: str, group: dict[str, Any]) -> dict[str, str]:
    """Return the labels of a group's pods, with those that KubeRay adds."""
    service = document.kind == "RayService"
    is_left_out = node_type == "head" and document.spec.get("excludeHeadPodFromServeSvc") is True
    return {
        **MADE_BY_KUBERAY,
        objects.CLUSTER: ANY if service else document.name,
        "ray.io/is-ray-node": "yes",
        **texts(at(group, "template", "metadata", "labels")),
        **texts(group.get("labels")),
        objects.NODE_TYPE: node_type,
        objects.GROUP: name,
        **({"ray.io/serve": "false" if is_left_out else "true"} if service else {}),
    }
