"""Rules: the objects of a folder are in the namespace where they find each other, and each of them is there once."""

from collections.abc import Iterator

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.folder import documents, listed, meets, services
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import pod_templates
from kuberay.doctor.rules.redis import OPTIONS
from kuberay.doctor.rules.references import of_namespace, references
from kuberay.doctor.selectors import selects
from kuberay.doctor.untyped import at, mappings

OF_THE_CLUSTER = (
    "Namespace", "Node", "PersistentVolume", "StorageClass", "PriorityClass", "RuntimeClass", "IngressClass", "GatewayClass",
    "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition",
)  # fmt: skip
SELECTING = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}
TOGETHER = (
    "RayService", "RayCluster", "Deployment", "StatefulSet", "Job", "Service", "PersistentVolumeClaim", "Secret", "ConfigMap",
    "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "ResourceQuota",
)  # fmt: skip
"""Kinds that a service has in its own namespace."""


@rule("SG712", "an object is in the folder once", "Leave one out, or give it another name.")
def an_object_is_there_once(service: Service) -> Iterator[Finding]:
    seen = dict[tuple[str, ...], Document]()
    for one in documents(service):
        group = str(one.content.get("apiVersion", "")).rpartition("/")[0]
        key = (group, one.kind, "" if one.kind in OF_THE_CLUSTER else one.namespace, one.name)
        other = seen.setdefault(key, one)
        if other is not one and one.name:
            where = str(other.file) if other.line("kind") is None else f"{other.file}:{other.line('kind')}"
            sentence = f"{one.title} is in the folder twice, {where} has it too: what is applied last wins. Leave one out"
            yield one.finding(an_object_is_there_once, "metadata.name", sentence)


@rule(
    "SG713",
    "objects that need each other are in one namespace",
    "Give them all the same metadata.namespace.",
)
def objects_meet_in_a_namespace(service: Service) -> Iterator[Finding]:
    apart = dict[tuple[str, str], list[tuple[Document, Document]]]()
    for one, other in _needs(service):
        if not meets(one.namespace, other.namespace):
            first, second = sorted((one, other), key=lambda one: one.namespace)
            apart.setdefault((first.namespace, second.namespace), []).append((first, second))
    for (first_space, second_space), pairs in apart.items():
        firsts, seconds = ({pair[side].title: pair[side] for pair in pairs} for side in (0, 1))
        few, many, space, others = (
            (firsts, seconds, first_space, second_space)
            if len(firsts) <= len(seconds)
            else (seconds, firsts, second_space, first_space)
        )
        for document in few.values():
            sentence = (
                f"{document.title} is in the namespace {space}, and {listed(sorted(many))} in {others}: they need each other, and do not "
                "find each other there. Give them one namespace"
            )
            yield document.finding(objects_meet_in_a_namespace, "metadata.namespace", sentence)


@rule(
    "SG714",
    "either all objects of a service state their namespace, or none does",
    "State the namespace in each, or in none and name it with `kubectl apply -n`.",
)
def a_namespace_is_stated_everywhere(service: Service) -> Iterator[Finding]:
    related = documents(service, *TOGETHER)
    stated = sorted({one.namespace for one in related} - {""})
    for one in related if stated else ():
        if not one.namespace:
            sentence = (
                f"it states no namespace, and others are in {' and '.join(stated)}: it goes where the context of kubectl points"
            )
            yield one.finding(a_namespace_is_stated_everywhere, "metadata.namespace", sentence, WARNING)


@rule("SG715", "a Namespace of the folder has objects of the folder in it", "Use the name that the objects state.")
def a_namespace_is_used(service: Service) -> Iterator[Finding]:
    everything = [one for one in documents(service) if one.kind not in OF_THE_CLUSTER]
    used = {one.namespace for one in everything} - {""}
    for one in documents(service, "Namespace"):
        if used and one.name not in used:
            like = near(one.name, used)
            sentence = f"no object of the folder is in {one.name}, they are in {' and '.join(sorted(used))}"
            sentence += ", which may not be there" if len(documents(service, "Namespace")) == 1 else ""
            sentence += f": did you mean {like}?" if like else ""
            yield one.finding(a_namespace_is_used, "metadata.name", sentence, WARNING)


def _needs(service: Service) -> Iterator[tuple[Document, Document]]:
    """Pairs of objects of which one needs the other in its namespace."""
    everything = pod_templates(service)
    for kind, field in SELECTING.items():
        for one in documents(service, kind):
            selector = one.spec.get(field)
            chosen = [
                other for other in everything if isinstance(selector, dict) and selector and selects(selector, other.labels)
            ]
            if not any(meets(one.namespace, other.namespace) for other in chosen):
                yield from ((one, other.document) for other in chosen)
    for target in services(service):
        chosen = [one for one in everything if target.selector and selects({"matchLabels": target.selector}, one.labels)]
        if not any(meets(target.namespace, one.namespace) for one in chosen):
            yield from ((target.document, one.document) for one in chosen)
    yield from _named(service)


def _named(service: Service) -> Iterator[tuple[Document, Document]]:
    named = [(one.document, one.kind, one.name) for one in references(service) if of_namespace(one)]
    for one in pod_templates(service):
        for _, volume in one.volumes:
            if claim := at(volume, "persistentVolumeClaim", "claimName"):
                named.append((one.document, "PersistentVolumeClaim", str(claim)))
    address = at(service.document.content, *OPTIONS.split("."), "redisAddress")
    if isinstance(address, str) and "." not in address:
        named.append((service.document, "Service", address.rpartition("//")[2].partition(":")[0]))
    for document, kind, name in named:
        found = [other for other in documents(service, kind) if other.name == name]
        if not any(meets(document.namespace, other.namespace) for other in found):
            yield from ((document, other) for other in found)
    yield from _routed(service)


def _routed(service: Service) -> Iterator[tuple[Document, Document]]:
    """Routes with the RayServices or Services that they lead to."""
    targets = services(service)
    for one in documents(service, "HTTPRoute", "Ingress"):
        for _, routed in mappings(one.spec.get("rules")):
            backends = [backend for _, backend in mappings(routed.get("backendRefs")) if "namespace" not in backend]
            names = [backend.get("name") for backend in backends]
            names += [at(path, "backend", "service", "name") for _, path in mappings(at(routed, "http", "paths"))]
            for name in names:
                found = [target for target in targets if target.name == name]
                if not any(meets(one.namespace, target.namespace) for target in found):
                    yield from ((one, target.document) for target in found)
