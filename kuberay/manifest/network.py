"""network.yaml: the policies that let through the traffic named here and nothing else."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from kuberay.manifest.objects import (
    HEAD_PORTS,
    NAMESPACE_NAME,
    NODE_TYPE,
    PORTS,
    Object,
    component,
    instance,
    kubernetes_object,
    of_group,
    of_ray,
)
from kuberay.part_values import REDIS_PORT
from kuberay.profiles import PORT, Profile
from kuberay.values import Values
from kuberay.worker_groups import INGRESS

RESOLVERS = (
    "169.254.20.10/32",  # NodeLocal DNSCache by default, on GKE too
    "169.254.25.10/32",  # NodeLocal DNSCache of kubespray
    "169.254.10.11/32",  # LocalDNS of AKS
    "169.254.169.254/32",  # Cloud DNS of GKE
)
"""DNS resolvers on the node itself: no pod selector matches them. The last is also the metadata server, which serves the
node's credentials on port 80: only port 53 may ever be opened to it."""


def network(profile: Profile) -> list[Object]:
    """Policies that let through the traffic named here and nothing else. Kubernetes always lets a node probe its own pods."""
    values = profile.values
    traces = collector(profile.args.get("tracing", {}))
    ray = of_ray(profile)
    own = {"podSelector": ray}
    dns = _dns(values.network.dns_cidrs)
    operator = _namespaces("operator")
    metrics = [PORTS["metrics"], HEAD_PORTS["as-metrics"], HEAD_PORTS["dash-metrics"]]
    redis = {"matchLabels": component(profile, "redis")}
    head = {"matchLabels": {**instance(profile), NODE_TYPE: "head"}}
    # KubeRay submits the Serve config; the autoscaler beside the head asks the Kubernetes API for pods.
    api = {**_blocks(values.network.api_cidrs), "ports": _tcp(*values.network.api_ports)}
    if values.redis.address:
        to_redis = {**_blocks(values.redis.cidrs), "ports": _tcp(values.redis.port)}
    else:
        to_redis = {"to": [{"podSelector": redis}], "ports": _tcp(REDIS_PORT)}
    policies: dict[str, Object | None] = {
        "deny": _policy({"matchLabels": instance(profile)}),
        "ray": _policy(
            ray,
            ingress=[
                {"from": [own]},
                {"from": [_namespaces("monitoring")], "ports": _tcp(*metrics)},
                {"from": [_namespaces("clients")], "ports": _tcp(PORT)},
            ],
            egress=[{"to": [own]}, to_redis, *dns],
        ),
        "head": _policy(head, ingress=[{"from": [operator], "ports": _tcp(HEAD_PORTS["dashboard"], PORT)}], egress=[api]),
        "redis": None if values.redis.address else _policy(redis, ingress=[{"from": [own], "ports": _tcp(REDIS_PORT)}]),
        "weights": _policy({"matchLabels": component(profile, "weights")}, egress=[*dns, {"ports": _tcp(_hub_port(values))}]),
        "traces": _policy(of_group(profile, INGRESS.name), egress=[traces]) if traces else None,
    }
    version, kind = "networking.k8s.io/v1", "NetworkPolicy"
    return [
        kubernetes_object(profile, version, kind, f"{profile.service}-{name}", spec=spec)
        for name, spec in policies.items()
        if spec
    ]


def _hub_port(values: Values) -> int:
    endpoint = urlsplit(values.weights.hub.endpoint)
    return endpoint.port or (80 if endpoint.scheme == "http" else 443)


def _blocks(cidrs: Sequence[str]) -> Object:
    """A rule's ranges; any address without them."""
    return {"to": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]} if cidrs else {}


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


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def _namespaces(role: str) -> Object:
    """The namespaces with the label `sonograph/<role>`, which the installation sets (docs/kubernetes/index.md)."""
    return {"namespaceSelector": {"matchExpressions": [{"key": f"sonograph/{role}", "operator": "Exists"}]}}


def _tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _both(port: int) -> list[Object]:
    """UDP, and TCP for answers that are too long for UDP."""
    return [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")]


def _policy(pods: Object, ingress: list[Object] | None = None, egress: list[Object] | None = None) -> Object:
    rules = {"ingress": ingress or [], "egress": egress or []}
    return {"podSelector": pods, "policyTypes": ["Ingress", "Egress"], **{key: value for key, value in rules.items() if value}}
