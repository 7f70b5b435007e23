"""Rule: the network policies let traces out to their collector."""

from collections.abc import Iterator
from typing import Any

from kuberay import app
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.rules.serve_config import FIELD
from kuberay.manifest.network import collector

INGRESS = "ingress"
OF_KUBERAY = {"ray.io/cluster", "ray.io/node-type=worker", f"ray.io/group={INGRESS}"}
"""Labels that KubeRay gives to the ingress' pods; the cluster's value is random."""


@rule(
    "SG711",
    "a network policy lets traces out",
    "Render with OTEL_EXPORTER_OTLP_ENDPOINT.",
)
def traces_reach_their_collector(service: Service) -> Iterator[Finding]:
    """A policy that selects the ingress's pods cuts all that no policy names. No error: requests are answered without traces too."""
    specs = [one.content.get("spec") or {} for one in service.beside if one.content.get("kind") == "NetworkPolicy"]
    own = [group.template.metadata.labels for group in service.groups if group.group_name == INGRESS]
    labels = OF_KUBERAY | {f"{name}={value}" for one in own for name, value in one.items()}
    policies = [
        spec for spec in specs if "Egress" in spec.get("policyTypes", []) and _selects(spec.get("podSelector") or {}, labels)
    ]
    for number, application in enumerate(service.config["applications"]):
        try:
            wanted = collector(app.settings(application).tracing.model_dump())
        except Exception:  # rules of their own report it
            continue
        if wanted is None or not policies:
            continue
        (port,) = (one["port"] for one in wanted["ports"])
        if not any(_lets_out(rule, port) for spec in policies for rule in spec.get("egress") or []):
            sentence = f"no network policy lets the ingress reach port {port}, so traces are lost: render with OTEL_EXPORTER_OTLP_ENDPOINT"
            field = f"{FIELD}: applications[{number}].args.tracing.endpoint"
            yield service.finding(traces_reach_their_collector, field, sentence, WARNING)


def _selects(selector: dict[str, Any], labels: set[str]) -> bool:
    equal = {f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()}
    return equal | {one.get("key") for one in selector.get("matchExpressions") or []} <= labels


def _lets_out(rule: dict[str, Any], port: int) -> bool:
    """Whether the port is open. A rule for all ports counts if it has other peers than pods of this namespace."""
    if ports := rule.get("ports"):
        return any(one.get("port", port) <= port <= one.get("endPort", one.get("port", port)) for one in ports)
    return "to" not in rule or any(set(peer) != {"podSelector"} for peer in rule["to"])
