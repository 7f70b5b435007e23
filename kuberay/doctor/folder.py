"""Objects of a folder together: documents by kind, and Services with their labels and ports."""

import re
from dataclasses import dataclass
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.manifest import SERVE_PORT, Service
from kuberay.doctor.pod_templates import MADE_BY_KUBERAY, METRICS, pod_templates
from kuberay.doctor.selectors import ANY
from kuberay.doctor.untyped import mappings, texts, whole
from kuberay.manifest.objects import CLUSTER, HEAD_PORTS, NODE_TYPE

HEAD_SERVICE_PORTS = {
    "gcs-server": HEAD_PORTS["gcs"],
    **{name: HEAD_PORTS[name] for name in ("dashboard", "client")},
    "serve": SERVE_PORT,
}
"""Ports that KubeRay gives the head's Service where its container names none."""
ORIGIN = {"ray.io/originated-from-cr-name": ANY, "ray.io/originated-from-crd": ANY}


@dataclass(frozen=True)
class KubernetesService:
    """A Service: of the folder, or one that KubeRay makes."""

    name: str
    document: Document
    labels: dict[str, str]
    ports: dict[str, int]
    selector: dict[str, str] | None = None
    """None where KubeRay selects the pods."""

    @property
    def namespace(self) -> str:
        return self.document.namespace


def meets(one: str, other: str) -> bool:
    """Return whether two namespaces are the same, as far as they are stated."""
    return one == other or not one or not other


def documents(service: Service, *kinds: str) -> list[Document]:
    """Return the documents of the folder of these kinds, all without any, in the order of their places."""
    found = [one for one in (service.document, *service.beside) if not kinds or one.kind in kinds]
    return sorted(found, key=lambda one: (str(one.file), one.line("kind") or 0))


def services(service: Service) -> list[KubernetesService]:
    """Return the Services of the folder, and those that KubeRay makes for each RayService."""
    found = []
    for document in documents(service, "Service"):
        ports = {str(one.get("name", one.get("port"))): whole(one.get("port")) for _, one in mappings(document.spec.get("ports"))}
        selector = document.spec.get("selector")
        own = texts(selector) if isinstance(selector, dict) and selector else {}
        found.append(KubernetesService(document.name, document, texts(document.metadata.get("labels")), ports, own))
    for one in pod_templates(service):
        if one.node_type == "head":
            named = {name: port for name, port in one.ports.items() if not name.isdigit()}
            ports = {**named, METRICS[0]: METRICS[1]} if len(named) > 1 else {**HEAD_SERVICE_PORTS, **named}
            labels = {**MADE_BY_KUBERAY, CLUSTER: ANY, NODE_TYPE: "head", **ORIGIN}
            found.append(KubernetesService(f"{one.document.name}-head-svc", one.document, labels, ports))
            if one.document.kind == "RayService":
                serve = {"serve": one.ports.get("serve", SERVE_PORT)}
                labels = {**MADE_BY_KUBERAY, "ray.io/serve": ANY, CLUSTER: ANY, **ORIGIN}
                found.append(KubernetesService(f"{one.document.name}-serve-svc", one.document, labels, serve))
    return found


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
