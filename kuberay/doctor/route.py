"""Rules: an HTTPRoute sends every request to a service that there is, waits for its answer, and leaves out what is not for clients."""

import re
from collections.abc import Iterator
from typing import Any

from kuberay.doctor.manifest import Document, Finding, Rule, Service
from kuberay.doctor.times import longest_deadline_s
from kuberay.manifest.route import serve_service
from kuberay.profiles import PORT

PRIVATE = ("/graph", "/graph/rollouts", "/-/routes")
"""Paths whose GET is for operators: what runs where, the rollouts, and Serve's own."""
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
INCREMENTAL = "NewClusterWithIncrementalUpgrade"


def a_route_leads_to_services_that_there_are(service: Service) -> Iterator[Finding]:
    rule = a_route_leads_to_services_that_there_are
    documents = (service.document, *service.beside)
    kept = {
        one["metadata"]["name"]: one["spec"] for one in (document.content for document in documents) if _is(one, "RayService")
    }
    services = {serve_service(name): spec for name, spec in sorted(kept.items())}
    for document, field, routed in _rules(service):
        for number, backend in enumerate(routed.get("backendRefs") or ()):
            name, port = backend.get("name"), backend.get("port")
            strategy = (services.get(name, {}).get("upgradeStrategy") or {}).get("type")
            sentence = ""
            if name not in services:
                sentence = f"{name} belongs to no RayService here, only {' and '.join(services)} do: its requests would fail"
            elif port != PORT:
                sentence = f"{name} listens on {PORT}, and not on {port}: its requests would fail"
            elif strategy == INCREMENTAL:
                sentence = (
                    f"with {INCREMENTAL} KubeRay makes a Service for each cluster, under a random name, and {name} may have no pod "
                    "in an upgrade: take KubeRay's own Gateway, or NewCluster"
                )
            if sentence:
                yield Finding(document.file, f"{field}.backendRefs[{number}]", sentence, rule.__name__)


def shares_add_up_to_100(service: Service) -> Iterator[Finding]:
    for document, field, routed in _rules(service):
        weights = [backend.get("weight", 1) for backend in routed.get("backendRefs") or ()]
        if len(weights) > 1 and sum(weights) != 100:
            added = " + ".join(map(str, weights))
            sentence = f"the weights are meant as percent, and {added} is {sum(weights)}: make them add up to 100"
            yield Finding(document.file, f"{field}.backendRefs", sentence, shares_add_up_to_100.__name__)


def a_route_outlasts_the_deadline(service: Service) -> Iterator[Finding]:
    deadline_s = longest_deadline_s(service)
    for document, field, routed in _rules(service):
        timeouts = routed.get("timeouts") or {}
        for name in ("request", *(["backendRequest"] if "backendRequest" in timeouts else [])):
            timeout_s = _seconds(str(timeouts.get(name, "")))
            if timeout_s is None:
                sentence = (
                    f"it is {timeouts.get(name, 'not stated')}, and Envoy then ends a request after 15 s: state it, such as 180s"
                )
            elif 0 < timeout_s <= deadline_s:
                sentence = (
                    f"{timeout_s:g} s is not above the deadline (http.deadline_s, {deadline_s:g} s): "
                    "the gateway would end a request that still has time"
                )
            else:
                continue
            yield Finding(document.file, f"{field}.timeouts.{name}", sentence, a_route_outlasts_the_deadline.__name__)


def a_route_leaves_out_what_is_private(service: Service) -> Iterator[Finding]:
    for document, field, routed in _rules(service):
        matches: list[dict[str, Any]] = routed.get("matches") or [{}]
        found = [path for path in PRIVATE if any(_takes(stated, path) for stated in matches)]
        if found:
            sentence = (
                f"it lets GET {', '.join(found)} through, which shows clients what runs where: name the paths that they need"
            )
            yield Finding(document.file, f"{field}.matches", sentence, a_route_leaves_out_what_is_private.__name__, warning=True)


def _takes(stated: dict[str, Any], path: str) -> bool:
    """Whether a match takes a GET of the path. Without a path it takes all, as PathPrefix / does."""
    if stated.get("method", "GET") != "GET":
        return False
    wanted = {"type": "PathPrefix", "value": "/", **(stated.get("path") or {})}
    if wanted["type"] == "Exact":
        return bool(path == wanted["value"])
    if wanted["type"] == "RegularExpression":
        return re.fullmatch(wanted["value"], path) is not None
    return f"{path}/".startswith(f"{wanted['value'].rstrip('/')}/")


def _seconds(duration: str) -> float | None:
    """The seconds of a duration of Gateway API (GEP-2257), such as 2m30s; None for any other text."""
    if not re.fullmatch("([0-9]{1,5}(h|m|s|ms)){1,4}", duration):
        return None
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall("([0-9]+)(ms|h|m|s)", duration))


def _rules(service: Service) -> Iterator[tuple[Document, str, dict[str, Any]]]:
    """Each rule of each HTTPRoute in the folder, with its field."""
    for document in service.beside:
        if _is(document.content, "HTTPRoute"):
            for number, routed in enumerate(document.content["spec"].get("rules") or ()):
                yield document, f"spec.rules[{number}]", routed


def _is(content: dict[str, Any], kind: str) -> bool:
    return content.get("kind") == kind and isinstance(content.get("spec"), dict)


RULES: tuple[Rule, ...] = (
    a_route_leads_to_services_that_there_are,
    shares_add_up_to_100,
    a_route_outlasts_the_deadline,
    a_route_leaves_out_what_is_private,
)
