"""Connections that the network policies of a folder let through.

Policies of a pod add up: once one selects it for a direction, only what some policy names is let through. What the folder cannot
tell, such as the labels of another namespace, counts as let through.
"""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.folder import documents, meets
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import PodTemplate
from kuberay.doctor.selectors import ANY, selects
from kuberay.doctor.untyped import mapping, mappings, texts
from kuberay.manifest.objects import COMPONENT, INSTANCE, NAMESPACE_NAME

INGRESS, EGRESS = "Ingress", "Egress"
DNS_NAMESPACES = ("kube-system", "openshift-dns")
DNS_APPS = ("kube-dns", "coredns", "node-local-dns")
"""Values of the label k8s-app of the pods that serve DNS."""
OPERATOR = {
    "app.kubernetes.io/name": "kuberay-operator",
    COMPONENT: "kuberay-operator",
    INSTANCE: ANY,
}
"""Labels that the chart of KubeRay gives to its operator."""
RANDOM_PORT = 40123
"""One of those that Ray takes where none is stated."""

type Peer = dict[str, Any]
type Takes = Callable[["Policy", Peer], bool]


@dataclass(frozen=True)
class Policy:
    document: Document

    @property
    def namespace(self) -> str:
        return self.document.namespace

    @property
    def directions(self) -> list[str]:
        spec = self.document.spec
        if isinstance(spec.get("policyTypes"), list) and spec["policyTypes"]:
            return list(map(str, spec["policyTypes"]))
        return [INGRESS, EGRESS] if spec.get("egress") else [INGRESS]

    def rules(self, direction: str) -> list[tuple[int, dict[str, Any]]]:
        return mappings(self.document.spec.get(direction.lower()))

    def selects(self, pods: PodTemplate) -> bool:
        return meets(self.namespace, pods.namespace) and selects(self.document.spec.get("podSelector"), pods.labels)


def policies(service: Service) -> list[Policy]:
    return [Policy(one) for one in documents(service, "NetworkPolicy")]


def of_pods(service: Service, pods: PodTemplate, direction: str) -> list[Policy]:
    """Return the policies that cut the pods in a direction; none where all is let through."""
    return [one for one in policies(service) if direction in one.directions and one.selects(pods)]


def is_open(found: list[Policy], direction: str, takes: Takes, port: Callable[[dict[str, Any]], bool]) -> bool:
    """Return whether these policies let something through: of a peer that `takes`, at a port that `port` is true of."""
    return not found or any(
        _has_peer(policy, routed, direction, takes) and _has_port(routed, port)
        for policy in found
        for _, routed in policy.rules(direction)
    )


def _has_peer(policy: Policy, routed: dict[str, Any], direction: str, takes: Takes) -> bool:
    peers = mappings(routed.get("from" if direction == INGRESS else "to"))
    return not peers or any(takes(policy, peer) for _, peer in peers)


def _has_port(routed: dict[str, Any], port: Callable[[dict[str, Any]], bool]) -> bool:
    ports = mappings(routed.get("ports"))
    return not ports or any(port(one) for _, one in ports)


def number(wanted: int, protocol: str = "TCP", names: dict[str, int] | None = None) -> Callable[[dict[str, Any]], bool]:
    """Return whether an entry of `ports` is of this port. Without a protocol an entry is TCP.

    `names`: the named ports of the pods that it leads to; without them, as of pods outside of the folder, a name may be this port's.
    """

    def takes(entry: dict[str, Any]) -> bool:
        if entry.get("protocol", "TCP") != protocol:
            return False
        port, end = entry.get("port"), entry.get("endPort")
        if isinstance(port, str):
            return names is None or names.get(port) == wanted
        if not isinstance(port, int):
            return True
        return port <= wanted <= (end if isinstance(end, int) else port)

    return takes


def dns(protocol: str) -> Callable[[dict[str, Any]], bool]:
    """Return whether an entry is of DNS: of port 53, of 5353 as the pods of OpenShift have it, or a port of that name."""
    numbers = number(53, protocol), number(5353, protocol)

    def takes(entry: dict[str, Any]) -> bool:
        if isinstance(entry.get("port"), str):
            return "dns" in entry["port"] and bool(entry.get("protocol", "TCP") == protocol)
        return any(one(entry) for one in numbers)

    return takes


def pods_of(pods: PodTemplate) -> Takes:
    """Return whether a peer is these pods."""

    def takes(policy: Policy, peer: Peer) -> bool:
        if "ipBlock" in peer:
            return not _is_single(peer)
        if "namespaceSelector" in peer:
            labels: dict[str, str] = {NAMESPACE_NAME: pods.namespace or ANY}
            if not selects(peer["namespaceSelector"], labels, lambda key: key != NAMESPACE_NAME):
                return False
        elif not meets(policy.namespace, pods.namespace):
            return False
        return selects(peer.get("podSelector"), pods.labels)

    return takes


def elsewhere(folder: list[PodTemplate]) -> Takes:
    """Return whether a peer may be something that is not of the folder."""

    def takes(policy: Policy, peer: Peer) -> bool:
        if "ipBlock" in peer or "namespaceSelector" in peer:
            return True
        selector = mapping(peer.get("podSelector"))
        return not selector or not any(selects(selector, one.labels) for one in folder)

    return takes


def operator(policy: Policy, peer: Peer) -> bool:
    """Return whether a peer may be KubeRay's operator."""
    if "ipBlock" in peer:
        return True
    labels = mapping(peer.get("podSelector"))
    return selects(labels, OPERATOR, lambda key: key not in OPERATOR and not key.startswith("ray.io/"))


def resolver(policy: Policy, peer: Peer) -> bool:
    """Return whether a peer may serve DNS."""
    if "ipBlock" in peer:
        return True
    if "namespaceSelector" not in peer:
        return policy.namespace in DNS_NAMESPACES
    named = texts(mapping(peer.get("podSelector")).get("matchLabels")).get("k8s-app", "kube-dns")
    if named not in DNS_APPS and near(named, DNS_APPS):
        return False
    return any(
        selects(peer["namespaceSelector"], {NAMESPACE_NAME: one}, lambda key: key != NAMESPACE_NAME)
        for one in (*DNS_NAMESPACES, *_dns(peer))
    )


def _dns(peer: Peer) -> Iterator[str]:
    """The namespaces that it names which are for DNS by their names."""
    named = [texts(mapping(peer["namespaceSelector"]).get("matchLabels")).get(NAMESPACE_NAME, "")]
    for _, one in mappings(mapping(peer["namespaceSelector"]).get("matchExpressions")):
        named += list(map(str, one.get("values") or []))
    yield from (one for one in named if "dns" in one)


def addresses(policy: Policy, peer: Peer) -> bool:
    """Return whether a peer is a range of addresses that is not of the node itself."""
    return "ipBlock" in peer and not _is_local(peer)


def internet(policy: Policy, peer: Peer) -> bool:
    """Return whether a peer is of the internet."""
    network = _network(peer)
    return "ipBlock" in peer and (network is None or network.prefixlen == 0 or not network.is_private)


def _network(peer: Peer) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(str(mapping(peer.get("ipBlock")).get("cidr")), strict=False)
    except ValueError:
        return None


def _is_local(peer: Peer) -> bool:
    network = _network(peer)
    return network is not None and (network.is_link_local or network.is_loopback)


def _is_single(peer: Peer) -> bool:
    """Whether it is one address: no range of pods."""
    network = _network(peer)
    return network is not None and (network.prefixlen == network.max_prefixlen or _is_local(peer))
