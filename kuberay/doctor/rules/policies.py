"""Rules: the network policies let through what a RayService cannot do without."""

from collections.abc import Iterator
from typing import Any

from kuberay.doctor import reach
from kuberay.doctor.finding import ERROR, WARNING, Finding, Severity, rule
from kuberay.doctor.folder import listed
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.reach import EGRESS, INGRESS, RANDOM_PORT, is_open, number, of_pods
from kuberay.doctor.untyped import at
from kuberay.manifest.objects import HEAD_PORTS

GCS, DASHBOARD = HEAD_PORTS["gcs"], HEAD_PORTS["dashboard"]
OPERATOR_REMEDY = "Let the operator's namespace in at port 8265 (`from` a namespaceSelector)."


@rule("SG742", "the network policies let KubeRay's operator reach the head", OPERATOR_REMEDY)
def kuberay_reaches_the_head(service: Service) -> Iterator[Finding]:
    for head in _own(service, "head"):
        found = of_pods(service, head, INGRESS)
        dashboard = number(_parameter(head, "dashboard-port", DASHBOARD), names=head.ports | {"dashboard": DASHBOARD})
        if is_open(found, INGRESS, reach.operator, dashboard):
            if found and not is_open(found, INGRESS, _from_another_namespace, dashboard):
                sentence = (
                    f"{_named(found)} let only pods of {head.namespace or 'this namespace'} reach port {DASHBOARD} of the head: KubeRay's "
                    "operator has to be there, or it never deploys the app"
                )
                yield found[0].document.finding(kuberay_reaches_the_head, "spec.ingress", sentence, WARNING)
            continue
        sentence = (
            f"{_named(found)} select the head's pods, and nobody of the operator's namespace reaches port {DASHBOARD}: KubeRay cannot "
            "deploy the app, and nothing is served. Let that namespace in"
        )
        yield found[0].document.finding(kuberay_reaches_the_head, "spec.ingress", sentence)


@rule(
    "SG743",
    "the network policies let DNS out",
    "Let UDP and TCP 53 out to kube-system (`kubernetes.io/metadata.name: kube-system`), and to the node's own resolver.",
)
def pods_resolve_names(service: Service) -> Iterator[Finding]:
    for one in _needing_names(service):
        found = of_pods(service, one, EGRESS)
        lost = [name for name in ("UDP", "TCP") if not is_open(found, EGRESS, reach.resolver, reach.dns(name))]
        if not lost:
            continue
        if one.node_type:
            ends = "the head's and Redis' names cannot be resolved, and Ray does not start"
        else:
            ends = "the hub's name cannot be resolved, and the weights are not fetched"
        severity: Severity = ERROR if one.node_type else WARNING
        if lost == ["TCP"]:
            ends, severity = "answers that are too long for UDP are lost", WARNING
        ports = " and ".join(f"{name} 53" for name in lost)
        sentence = f"{_named(found)} select {one.name}, and {ports} is not let out to the resolvers of DNS: {ends}. Let UDP and TCP 53 out"
        yield found[0].document.finding(pods_resolve_names, "spec.egress", sentence, severity)


@rule(
    "SG744",
    "the network policies let Ray's pods reach each other",
    "Let the pods of the cluster in and out among themselves at every port: Ray takes random ones.",
)
def rays_pods_reach_each_other(service: Service) -> Iterator[Finding]:
    own = _own(service)
    for direction in (EGRESS, INGRESS):
        cut = dict[tuple[str, ...], list[str]]()
        for one in own:
            for other in own:
                source, target = (one, other) if direction == EGRESS else (other, one)
                found = of_pods(service, one, direction)
                if found and not all(
                    is_open(found, direction, reach.pods_of(other), number(port, names=target.ports))
                    for port in _rays_ports(source, target)
                ):
                    cut.setdefault(tuple(policy.document.name for policy in found), []).append(f"{source.name} to {target.name}")
        for names, pairs in cut.items():
            policy = next(policy for policy in reach.policies(service) if policy.document.name == names[0])
            way = "out" if direction == EGRESS else "in"
            sentence = (
                f"NetworkPolicy {listed(list(names))} cuts Ray's pods from each other ({listed(pairs, 2)}): Ray's nodes do not join, and "
                f"nothing is served. Let the cluster's own pods {way} at every port"
            )
            yield policy.document.finding(rays_pods_reach_each_other, f"spec.{direction.lower()}", sentence)


@rule(
    "SG746",
    "the network policies let clients reach the service",
    "Let the clients' namespace, or the gateway's, in at port 8000.",
)
def clients_reach_the_service(service: Service) -> Iterator[Finding]:
    every = pod_templates(service)
    for one in _serving(service):
        found = of_pods(service, one, INGRESS)
        if not is_open(found, INGRESS, reach.elsewhere(every), number(service.port, names=one.ports)):
            happens = f"no client reach port {service.port} of {one.name}: its requests get no answer"
            sentence = f"{_named(found)} let {happens}. Let the clients in"
            yield found[0].document.finding(clients_reach_the_service, "spec.ingress", sentence)


@rule(
    "SG748",
    "the network policies let the head reach the Kubernetes API",
    "Let the head out to the API server's port, 443 or 6443, without a podSelector: it is no pod.",
)
def the_autoscaler_reaches_the_api(service: Service) -> Iterator[Finding]:
    for head in _own(service, "head"):
        if at(head.document.content, "spec", "rayClusterConfig", "enableInTreeAutoscaling") is not True:
            continue
        found = of_pods(service, head, EGRESS)
        if not is_open(found, EGRESS, reach.addresses, _is_port_of_the_api):
            sentence = (
                f"{_named(found)} cut the head from the Kubernetes API: the autoscaler beside it cannot ask for pods, and no group grows. "
                "Let TCP 443 and 6443 out"
            )
            yield found[0].document.finding(the_autoscaler_reaches_the_api, "spec.egress", sentence, WARNING)


def _is_port_of_the_api(entry: dict[str, Any]) -> bool:
    """Whether it may be the API server's: every cluster has its own port, and it is none of DNS or Redis."""
    return entry.get("protocol", "TCP") == "TCP" and entry.get("port") not in (53, 5353, 80, GCS)


def _from_another_namespace(policy: reach.Policy, peer: dict[str, Any]) -> bool:
    if "podSelector" in peer and not reach.operator(policy, peer):
        return False
    return "ipBlock" in peer or "namespaceSelector" in peer


def _own(service: Service, node_type: str = "") -> list[PodTemplate]:
    """The pods of this RayService."""
    return [one for one in pod_templates(service) if one.document is service.document and node_type in ("", one.node_type)]


def _serving(service: Service) -> list[PodTemplate]:
    place = at(service.config, "proxy_location")
    if place == "Disabled":
        return []
    head_only = place == "HeadOnly"
    return [one for one in _own(service, "head" if head_only else "worker") if one.count.most]


def _needing_names(service: Service) -> Iterator[PodTemplate]:
    yield from _own(service)
    yield from (one for one in pod_templates(service) if is_filling(one))


def is_filling(one: PodTemplate) -> bool:
    """Return whether the pods fetch weights: a Job with a hub's variables, or that mounts a claim to write."""
    if one.document.kind not in ("Job", "CronJob"):
        return False
    env = {str(entry.get("name")): entry.get("value") for container in one.containers for _, entry in container.env}
    if env.get("HF_HUB_OFFLINE") in ("1", "true", "True"):
        return False
    claims = [volume for _, volume in one.volumes if "persistentVolumeClaim" in volume]
    return bool(claims) or any(name.startswith("HF_") for name in env)


def _rays_ports(source: PodTemplate, target: PodTemplate) -> Iterator[int]:
    """Ports of a pod of Ray that another one connects to. Where none is stated Ray takes random ones."""
    yield from (_parameter(target, name, RANDOM_PORT) for name in ("node-manager-port", "object-manager-port", "min-worker-port"))
    if target.node_type == "head" and source is not target:
        yield _parameter(target, "port", GCS)


def _parameter(one: PodTemplate, name: str, otherwise: int) -> int:
    value = str(one.params.get(name, ""))
    return int(value) if value.isdigit() and int(value) else otherwise


def _named(found: list[reach.Policy]) -> str:
    """The policies as the beginning of a sentence."""
    names = [one.document.name for one in found]
    return f"the policies {listed(names)} together" if len(names) > 1 else f"the policies, {''.join(names)} alone,"
