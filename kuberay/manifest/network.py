"""network.yaml: the policies that let through the traffic named here and nothing else."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from kuberay.manifest.objects import HEAD_PORTS, OF_INGRESS, OF_RAY, PORTS, Object, kubernetes_object
from kuberay.profiles import PORT

RESOLVERS = (
    "169.254.20.10/32",  # NodeLocal DNSCache by default, on GKE too
    "169.254.25.10/32",  # NodeLocal DNSCache of kubespray
    "169.254.10.11/32",  # LocalDNS of AKS
    "169.254.169.254/32",  # Cloud DNS of GKE
)
"""DNS resolvers on the node itself: no pod selector matches them. The last is also the metadata server, which serves the
node's credentials on port 80: only port 53 may ever be opened to it."""


def network(dns_cidrs: Sequence[str] = (), tracing: Mapping[str, Any] | None = None) -> list[Object]:
    """Policies that let through the traffic named here and nothing else. Kubernetes always lets a node probe its own pods.

    `dns_cidrs`: further DNS resolvers. `tracing`: the settings of that section, whose endpoint the ingress reaches.
    """
    traces = collector(tracing or {})
    own = {"podSelector": OF_RAY}
    dns = _dns(dns_cidrs)
    operator = _namespaces("operator")
    metrics = [PORTS["metrics"], HEAD_PORTS["as-metrics"], HEAD_PORTS["dash-metrics"]]
    redis = {"podSelector": {"matchLabels": {"app": "redis"}}}
    head = {"matchLabels": {"ray.io/node-type": "head"}}
    return [
        _policy("deny", {}),
        _policy(
            "ray",
            OF_RAY,
            ingress=[
                {"from": [own]},
                {"from": [_namespaces("monitoring")], "ports": _tcp(*metrics)},
                {"from": [_namespaces("clients")], "ports": _tcp(PORT)},
            ],
            egress=[{"to": [own]}, {"to": [redis], "ports": _tcp(6379)}, *dns],
        ),
        # KubeRay submits the Serve config; the autoscaler beside the head asks the Kubernetes API for pods.
        _policy(
            "head",
            head,
            ingress=[{"from": [operator], "ports": _tcp(HEAD_PORTS["dashboard"], PORT)}],
            egress=[{"ports": _tcp(443, 6443)}],
        ),
        _policy("redis", {"matchLabels": {"app": "redis"}}, ingress=[{"from": [own], "ports": _tcp(6379)}]),
        _policy("weights", {"matchLabels": {"app": "weights"}}, egress=[*dns, {"ports": _tcp(443)}]),
        *([_policy("traces", OF_INGRESS, egress=[traces])] if traces else ()),
    ]


def collector(tracing: Mapping[str, Any]) -> Object | None:
    """A rule that lets traces out to the endpoint of these settings; None without one, and for one inside of the pod.

    A host by its name is a Service in one of the namespaces for collectors. Raises ValueError for a port that is none.
    """
    endpoint = urlsplit(tracing.get("endpoint", ""))
    host = endpoint.hostname
    if host is None or host == "localhost":
        return None
    port = endpoint.port or (
        80 if endpoint.scheme == "http" and tracing.get("protocol") != "grpc" else 443
    )  # gRPC's is always 443
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {"to": [_namespaces("collector")], "ports": _tcp(port)}
    return (
        None if address.is_loopback else {"to": [{"ipBlock": {"cidr": str(ipaddress.ip_network(address))}}], "ports": _tcp(port)}
    )


def _dns(cidrs: Sequence[str]) -> list[Object]:
    """Rules that let DNS through: to the pods that serve it, and to resolvers outside the cluster's pod network."""
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in dict.fromkeys((*RESOLVERS, *cidrs))]
    return [
        {"to": [_namespace("kube-system"), *blocks], "ports": _both(53)},
        {"to": [_namespace("openshift-dns")], "ports": _both(5353)},  # a policy sees the port of the pod, not the Service's 53
    ]


def resolver(text: str) -> str:
    """The CIDR of a DNS resolver, from an address or a range. Raises ValueError, which names the accepted forms."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        sentence = f"{text!r} is no network: give an address such as 10.96.0.10, or a range such as 10.96.0.0/28"
        raise ValueError(sentence) from error
    if interface.ip != interface.network.network_address:
        raise ValueError(
            f"{text} has host bits set: give {interface.network} for the range, or {interface.ip} for this address alone"
        )
    return str(interface.network)


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _namespaces(role: str) -> Object:
    """The namespaces with the label `sonograph/<role>`, which the installation sets (kuberay/README.md)."""
    return {"namespaceSelector": {"matchExpressions": [{"key": f"sonograph/{role}", "operator": "Exists"}]}}


def _tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _both(port: int) -> list[Object]:
    """UDP, and TCP for answers that are too long for UDP."""
    return [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")]


def _policy(name: str, pods: Object, ingress: list[Object] | None = None, egress: list[Object] | None = None) -> Object:
    rules = {"ingress": ingress or [], "egress": egress or []}
    spec = {"podSelector": pods, "policyTypes": ["Ingress", "Egress"], **{key: value for key, value in rules.items() if value}}
    return kubernetes_object("networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)
