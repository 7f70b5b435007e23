"""Rules: the head reaches the Redis of its folder, with its password, and there is one."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kuberay.doctor import reach
from kuberay.doctor.finding import ERROR, NOTE, Finding, rule
from kuberay.doctor.folder import KubernetesService, documents, meets, services
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.reach import EGRESS, INGRESS, is_open, number, of_pods
from kuberay.doctor.selectors import selects
from kuberay.doctor.untyped import at, mappings, texts
from kuberay.part_values import REDIS_PORT

OPTIONS = "spec.rayClusterConfig.gcsFaultToleranceOptions"
ADDRESS, PASSWORD = f"{OPTIONS}.redisAddress", f"{OPTIONS}.redisPassword"
REPLICATED = ("replicaof", "slaveof", "sentinel", "cluster-enabled", "replication")


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def in_cluster(self) -> bool:
        return "." not in self.host or re.search(r"\.svc(\.|$)", self.host) is not None


def _address(service: Service) -> Address | None:
    options = service.cluster.gcs_fault_tolerance_options or {}
    found = re.fullmatch(r"(?:[a-z]+://)?([A-Za-z0-9._-]+)(?::(\d{1,5}))?/?", str(options.get("redisAddress", "")))
    return Address(found[1], int(found[2] or REDIS_PORT)) if found else None


def _target(service: Service, address: Address) -> KubernetesService | None:
    """The Service of the folder that the address names; a pod of a StatefulSet by its own name too."""
    found = [one for one in services(service) if one.selector is not None]
    labels = address.host.split(".")
    spaces = [one for one in labels[1:2] if address.in_cluster and one]
    for one in found:
        if one.name == labels[0] and (
            not spaces or meets(one.namespace, spaces[0]) or service.document.namespace == one.namespace
        ):
            return one if address.in_cluster or one.namespace == labels[1] or not one.namespace else None
    pod = re.sub(r"-\d+$", "", labels[0])
    if len(labels) > 1 and any(one.name == pod for one in documents(service, "StatefulSet")):
        return next((one for one in found if one.name == labels[1]), None)
    return None


@rule(
    "SG723",
    "Redis' address is a Service of the folder where Redis is in the folder, at one of its ports",
    "Use the name of the Service and its port, such as `sonograph-redis:6379`.",
)
def redis_address_is_a_service(service: Service) -> Iterator[Finding]:
    own, address = redis_address_is_a_service, _address(service)
    if address is None:
        return
    target = _target(service, address)
    first, *further = address.host.split(".")
    if target is not None:
        yield from _of_target(service, address, target, further)
        return
    named = [one.name for one in services(service) if one.selector is not None]
    if not address.in_cluster:
        return
    redis = [one for one in services(service) if one.selector is not None and _is_redis(service, one)]
    like = near(first, named, [one.name for one in redis])
    if like or (redis and not further):
        name = like or redis[0].name
        sentence = f"there is no Service {first}, so the head does not find Redis and never starts: did you mean {name}?"
        yield service.finding(own, ADDRESS, sentence)
    else:
        sentence = f"no Service {first} is in the folder: it has to be in the namespace, or the head never starts"
        yield service.finding(own, ADDRESS, sentence, NOTE)


def _of_target(service: Service, address: Address, target: KubernetesService, further: list[str]) -> Iterator[Finding]:
    own = redis_address_is_a_service
    space = further[0] if further and further[0] != "svc" and further[0] != target.name else ""
    if space and not meets(space, target.namespace):
        sentence = f"it is of the namespace {space}, and Service {target.name} is in {target.namespace}: the head never starts"
        yield service.finding(own, ADDRESS, sentence)
    ports = set(target.ports.values())
    headless = at(target.document.content, "spec", "clusterIP") == "None"
    if headless:  # its name leads to the pods themselves, and so to their own ports
        chosen = [
            one for one in pod_templates(service) if target.selector and selects({"matchLabels": target.selector}, one.labels)
        ]
        declared = {port for one in chosen for port in one.ports.values()}
        ports = declared or ports
    if ports and address.port not in ports:
        of = f"the pods behind Service {target.name} listen" if headless else f"Service {target.name} listens"
        sentence = f"{of} on {' and '.join(map(str, sorted(ports)))}, and not on {address.port}: the head never starts"
        yield service.finding(own, ADDRESS, sentence)


@rule(
    "SG724",
    "the head has Redis' own password",
    "Name the Secret and the key that Redis takes its password from.",
)
def the_head_has_redis_password(service: Service) -> Iterator[Finding]:
    address = _address(service)
    target = _target(service, address) if address else None
    options = service.cluster.gcs_fault_tolerance_options or {}
    stated = options.get("redisPassword")
    for one in _behind(service, target):
        of_redis = _password(one)
        if of_redis is None:
            continue
        wanted = f"{of_redis[0]} ({of_redis[1]})"
        if not stated:
            sentence = (
                f"{one.name} asks for the password of Secret {wanted}, and the head has none: it is refused, and never starts"
            )
            yield service.finding(the_head_has_redis_password, PASSWORD, sentence)
            continue
        reference = at(stated, "valueFrom", "secretKeyRef")
        given = (str(at(reference, "name")), str(at(reference, "key")))
        if isinstance(reference, dict) and given != of_redis:
            sentence = (
                f"the head takes the password of Secret {given[0]} ({given[1]}), and {one.name} that of {wanted}: the head is refused, "
                "and never starts. Name one Secret and one key"
            )
            yield service.finding(the_head_has_redis_password, PASSWORD, sentence)


@rule(
    "SG725",
    "Redis is one pod, or its pods are replicas of one",
    "Set replicas to 1: two Redis that do not know each other have two states.",
)
def redis_is_one(service: Service) -> Iterator[Finding]:
    address = _address(service)
    for one in _behind(service, _target(service, address) if address else None):
        scaled = [hpa for hpa in documents(service, "HorizontalPodAutoscaler") if _scales(hpa.content, one)]
        most = max(
            [one.count.most, *(hpa.spec.get("maxReplicas", 0) for hpa in scaled if isinstance(hpa.spec.get("maxReplicas"), int))]
        )
        text = json.dumps(one.spec, default=str)
        configured = any("configMap" in volume for _, volume in one.volumes)
        if most > 1 and not configured and not any(word in text for word in REPLICATED):
            sentence = (
                f"{one.name} has up to {most} pods, and each is a Redis with a state of its own: a head that comes back may read another "
                "one's, and finds no cluster. Set replicas to 1"
            )
            place = "spec.replicas" if one.count.most > 1 or not scaled else "spec.maxReplicas"
            document = one.document if place == "spec.replicas" else scaled[0]
            yield document.finding(redis_is_one, place, sentence)
    if address and (target := _target(service, address)) and len(behind := _behind(service, target)) > 1:
        sentence = f"Service {target.name} leads to {' and '.join(one.name for one in behind)}, each with a state of its own: to one alone"
        yield target.document.finding(redis_is_one, "spec.selector", sentence)


@rule(
    "SG745",
    "the network policies let the head reach Redis",
    "Let the head out to Redis' port, and in at Redis' pods: a policy sees the port of the pod.",
)
def the_head_reaches_redis(service: Service) -> Iterator[Finding]:
    address = _address(service)
    heads = [one for one in pod_templates(service) if one.document is service.document and one.node_type == "head"]
    if address is None or not heads:
        return
    (head,) = heads
    target = _target(service, address)
    if any(one.severity is ERROR for one in redis_address_is_a_service(service)):
        return
    behind = [one for one in _behind(service, target) if "." in address.host or meets(one.namespace, head.namespace)]
    out = of_pods(service, head, EGRESS)
    if not behind:
        if target is None and not is_open(out, EGRESS, reach.elsewhere(pod_templates(service)), number(address.port)):
            yield _cut(out, EGRESS, f"the head out to Redis ({address.host}:{address.port})")
        return
    for one in behind:
        port = _port_of_pod(one, target, address.port)
        if not is_open(out, EGRESS, reach.pods_of(one), number(port, names=one.ports)):
            yield _cut(out, EGRESS, f"the head out to port {port} of {one.name}")
        into = of_pods(service, one, INGRESS)
        if not is_open(into, INGRESS, reach.pods_of(head), number(port, names=one.ports)):
            yield _cut(into, INGRESS, f"the head in at port {port} of {one.name}")


def _cut(found: list[reach.Policy], direction: str, what: str) -> Finding:
    names = " and ".join(one.document.name for one in found)
    sentence = f"{names}: no rule lets {what}, so the head never starts, and nothing is served. Let it through"
    return found[-1].document.finding(the_head_reaches_redis, f"spec.{direction.lower()}", sentence, ERROR)


def _port_of_pod(one: PodTemplate, target: KubernetesService | None, port: int) -> int:
    """The port of the pod behind a Service's port."""
    if target is None or at(target.document.content, "spec", "clusterIP") == "None":
        return port
    for _, entry in mappings(at(target.document.content, "spec", "ports")):
        if entry.get("port") == port:
            return one.port(entry.get("targetPort", port)) or port
    return port


def _behind(service: Service, target: KubernetesService | None) -> list[PodTemplate]:
    if target is None or not target.selector:
        return []
    return [one for one in pod_templates(service) if selects({"matchLabels": target.selector}, one.labels)]


def _is_redis(service: Service, target: KubernetesService) -> bool:
    return (
        REDIS_PORT in target.ports.values() or "redis" in target.name or any(_has_redis(one) for one in _behind(service, target))
    )


def _has_redis(one: PodTemplate) -> bool:
    return any(re.search("redis|valkey|dragonfly", str(container.content.get("image"))) for container in one.containers)


def _password(one: PodTemplate) -> tuple[str, str] | None:
    """The Secret and the key of Redis' password; None where it has none, or the doctor cannot tell."""
    for container in one.containers:
        for _, entry in container.env:
            reference = texts(at(entry, "valueFrom", "secretKeyRef"))
            if "PASS" in str(entry.get("name")).upper() and reference.get("name"):
                return reference["name"], reference.get("key", "")
    return None


def _scales(content: dict[str, Any], one: PodTemplate) -> bool:
    target = at(content, "spec", "scaleTargetRef")
    return bool((at(target, "kind"), at(target, "name")) == (one.document.kind, one.document.name))
