"""Pods and Services of a folder together: pods with their labels, Services with their ports; and what a selector selects."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.manifest import Service
from kuberay.profiles import PORT

TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod")
RAY_KINDS = ("RayService", "RayCluster")
HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": PORT}
"""Ports that KubeRay gives the head's Service where its container names none."""
METRICS = ("metrics", 8080)
"""The port that KubeRay adds to each of Ray's containers that does not name it."""


class AnyText(str):
    """A value that only the cluster knows, such as a random name."""

    __slots__ = ()


ANY = AnyText("*")


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """Return the mappings of a list, each with its index."""
    return [(index, one) for index, one in enumerate(value) if isinstance(one, dict)] if isinstance(value, list) else []


def at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def texts(value: Any) -> dict[str, str]:
    return {str(key): str(one) for key, one in mapping(value).items()}


@dataclasses.dataclass(frozen=True)
class Pods:
    """Pods of one template."""

    document: Document
    name: str
    """For sentences."""
    labels: dict[str, str]
    field: str
    """Of the pod's specification."""
    spec: dict[str, Any]
    least: int
    most: int
    node_type: str = ""
    """head or worker; empty where the pods are not Ray's."""
    group: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return namespace(self.document)

    @property
    def is_ray(self) -> bool:
        return bool(self.node_type)

    @property
    def containers(self) -> list[tuple[str, dict[str, Any]]]:
        """The containers, the init containers too, each with its field."""
        kinds = ("initContainers", "containers")
        return [(f"{self.field}.{kind}[{index}]", one) for kind in kinds for index, one in mappings(self.spec.get(kind))]

    @property
    def ports(self) -> dict[str, int]:
        """The declared ports by name; one without a name under its number."""
        found = {METRICS[0]: METRICS[1]} if self.is_ray else {}
        for _, container in mappings(self.spec.get("containers")) + mappings(self.spec.get("initContainers")):
            for _, port in mappings(container.get("ports")):
                if isinstance(port.get("containerPort"), int):
                    found[str(port.get("name", port["containerPort"]))] = port["containerPort"]
        return found

    def port(self, port: Any) -> int | None:
        """Return the number of a port, which may be a name; None for one that no container has."""
        return port if isinstance(port, int) else self.ports.get(str(port))


@dataclasses.dataclass(frozen=True)
class Target:
    """A Service: of the folder, or one that KubeRay makes."""

    name: str
    document: Document
    labels: dict[str, str]
    ports: dict[str, int]
    selector: dict[str, str] | None = None
    """None where KubeRay selects the pods."""

    @property
    def namespace(self) -> str:
        return namespace(self.document)


def namespace(document: Document) -> str:
    """Return its namespace; an empty one is the context's."""
    return str(document.metadata.get("namespace", ""))


def meets(one: str, other: str) -> bool:
    """Return whether two namespaces are the same, as far as they are stated."""
    return one == other or not one or not other


def documents(service: Service, *kinds: str) -> list[Document]:
    """Return the documents of the folder of these kinds, all without any, in the order of their places."""
    found = [one for one in (service.document, *service.beside) if not kinds or one.kind in kinds]
    return sorted(found, key=lambda one: (str(one.file), one.line("kind") or 0))


def title(document: Document) -> str:
    return f"{document.kind} {document.name}"


def pods(service: Service) -> list[Pods]:
    """Return the pods of every workload of the folder."""
    return [one for document in documents(service, *RAY_KINDS, *TEMPLATES) for one in _pods(document)]


def _pods(document: Document) -> Iterator[Pods]:
    if document.kind in RAY_KINDS:
        yield from _ray(document)
        return
    spec = document.spec
    path, template = {
        "Pod": ("", {"metadata": document.metadata, "spec": spec}),
        "CronJob": ("spec.jobTemplate.spec.template.", at(spec, "jobTemplate", "spec", "template")),
    }.get(document.kind, ("spec.template.", spec.get("template")))
    count = _count(spec.get("replicas" if document.kind != "Job" else "parallelism"), 1)
    labels = texts(at(template, "metadata", "labels"))
    yield Pods(document, title(document), labels, f"{path}spec", mapping(at(template, "spec")), count, count)


def _ray(document: Document) -> Iterator[Pods]:
    service = document.kind == "RayService"
    root = "spec.rayClusterConfig" if service else "spec"
    cluster = mapping(document.spec.get("rayClusterConfig")) if service else document.spec
    of_kuberay = {
        "ray.io/cluster": ANY if service else document.name,
        "ray.io/is-ray-node": "yes",
        "ray.io/identifier": ANY,
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }
    excluded = document.spec.get("excludeHeadPodFromServeSvc") is True
    parts = [("headGroupSpec", "head", mapping(cluster.get("headGroupSpec")))]
    parts += [(f"workerGroupSpecs[{index}]", "worker", one) for index, one in mappings(cluster.get("workerGroupSpecs"))]
    for place, node_type, group in parts:
        name = str(group.get("groupName", "")) if node_type == "worker" else "headgroup"
        template = mapping(group.get("template"))
        labels = {
            **of_kuberay,
            **texts(at(template, "metadata", "labels")),
            "ray.io/node-type": node_type,
            "ray.io/group": name,
            **({"ray.io/serve": "false" if excluded and node_type == "head" else "true"} if service else {}),
        }
        hosts = _count(group.get("numOfHosts"), 1)
        scaled = cluster.get("enableInTreeAutoscaling") is True
        least = _count(group.get("minReplicas" if scaled else "replicas"), _count(group.get("minReplicas"), 0)) * hosts
        most = max(least, _count(group.get("maxReplicas"), least) * hosts) if scaled else least
        called = f"the group {name}" if node_type == "worker" else "the head"
        counts = (1, 1) if node_type == "head" else (least, most)
        yield Pods(
            document, called, labels, f"{root}.{place}.template.spec", mapping(template.get("spec")), *counts, node_type, group
        )


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def services(service: Service) -> list[Target]:
    """Return the Services of the folder, and those that KubeRay makes for each RayService."""
    found = []
    for document in documents(service, "Service"):
        ports = {
            str(one.get("name", one.get("port"))): _count(one.get("port"), 0) for _, one in mappings(document.spec.get("ports"))
        }
        selector = document.spec.get("selector")
        own = texts(selector) if isinstance(selector, dict) and selector else {}
        found.append(Target(document.name, document, texts(document.metadata.get("labels")), ports, own))
    made = {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/created-by": "kuberay-operator", "ray.io/identifier": ANY}
    for one in pods(service):
        if one.node_type == "head":
            named = {name: port for name, port in one.ports.items() if not name.isdigit()}
            ports = {**named, METRICS[0]: METRICS[1]} if len(named) > 1 else {**HEAD_PORTS, **named}
            labels = {**made, "ray.io/cluster": ANY, "ray.io/node-type": "head", **ORIGIN}
            found.append(Target(f"{one.document.name}-head-svc", one.document, labels, ports))
            if one.document.kind == "RayService":
                serve = {"serve": one.ports.get("serve", PORT)}
                labels = {**made, "ray.io/serve": ANY, "ray.io/cluster": ANY, **ORIGIN}
                found.append(Target(f"{one.document.name}-serve-svc", one.document, labels, serve))
    return found


ORIGIN = {"ray.io/originated-from-cr-name": ANY, "ray.io/originated-from-crd": ANY}


def selects(selector: Any, labels: dict[str, str], unknown: Callable[[str], bool] = lambda _: False) -> bool:
    """Return whether a label selector selects these labels. `unknown`: whether a label that is not among them may be there."""
    selector = mapping(selector)
    wanted = [(key, "In", [value]) for key, value in texts(selector.get("matchLabels")).items()]
    wanted += [
        (str(one.get("key")), str(one.get("operator")), [str(value) for value in one.get("values") or []])
        for _, one in mappings(selector.get("matchExpressions"))
    ]
    return all(_matches(labels, unknown, *one) for one in wanted)


def _matches(labels: dict[str, str], unknown: Callable[[str], bool], key: str, operator: str, values: list[str]) -> bool:
    value = labels.get(key)
    if value is None and unknown(key):
        return True
    match operator:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "NotIn":
            return value is None or isinstance(value, AnyText) or value not in values
    return value is not None and (isinstance(value, AnyText) or value in values)


def shown(selector: Any) -> str:
    """Return a selector in words, as kubectl takes it."""
    selector = mapping(selector)
    parts = [f"{key}={value}" for key, value in texts(selector.get("matchLabels")).items()]
    for _, one in mappings(selector.get("matchExpressions")):
        values = f" ({', '.join(map(str, one.get('values') or []))})" if one.get("values") else ""
        parts.append(f"{one.get('key')} {one.get('operator')}{values}")
    return ",".join(parts) or "everything"


def listed(names: list[str], most: int = 3) -> str:
    """Return names as a text, the first of them where they are many."""
    names = list(dict.fromkeys(names))
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"


def seconds(duration: Any) -> float | None:
    """Return the seconds of a duration of Prometheus, such as 1m30s; None for any other text."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
    if not re.fullmatch(r"(\d+(ms|[smhdwy]))+", str(duration)):
        return None
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", str(duration)))
