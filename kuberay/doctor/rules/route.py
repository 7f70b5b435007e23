"""Rules: an HTTPRoute sends every request once, to a service that there is, waits for its answer, and leaves out what is not for
clients; a Gateway beside it has a certificate for TLS."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from kuberay.doctor.documents import LOADER, Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Part, Service, serve_port
from kuberay.doctor.rules.times import longest_deadline_s
from kuberay.manifest.route import serve_service

PRIVATE = ("/graph", "/graph/rollouts", "/-/routes")
"""Paths whose GET is for operators: what runs where, the rollouts, and Serve's own."""
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
INCREMENTAL = "NewClusterWithIncrementalUpgrade"


class Path(Part):
    type: str = "PathPrefix"
    value: str = "/"


class Match(Part):
    """A match; without a path it takes all."""

    path: Path = Path()
    method: str = ""

    def takes_get(self, path: str) -> bool:
        if self.method not in ("", "GET"):
            return False
        if self.path.type == "Exact":
            return path == self.path.value
        if self.path.type == "RegularExpression":
            with contextlib.suppress(re.error):  # the gateway's own syntax
                return re.fullmatch(self.path.value, path) is not None
            return False
        return f"{path}/".startswith(f"{self.path.value.rstrip('/')}/")


class Backend(Part):
    name: str
    port: int | None = None
    weight: int = 1


class Timeouts(Part):
    request: str = ""
    backend_request: str | None = None


class Retry(Part):
    """A rule's retries; their number is the gateway's own where it is not stated."""

    attempts: int = 1


class Filter(Part):
    type: str = ""


class RouteRule(Part):
    matches: list[Match] = []
    filters: list[Filter] = []
    backend_refs: list[Backend] = []
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry(attempts=0)

    @property
    def redirects(self) -> bool:
        """Whether the gateway answers itself, with another address."""
        return any(one.type == "RequestRedirect" for one in self.filters)


class RouteSpec(Part):
    rules: list[RouteRule] = []


class HttpRoute(Part):
    spec: RouteSpec


class Tls(Part):
    mode: str = "Terminate"
    certificate_refs: list[dict[str, Any]] = []


class Listener(Part):
    name: str
    protocol: str
    tls: Tls = Tls()


class GatewaySpec(Part):
    listeners: list[Listener] = []


class Gateway(Part):
    spec: GatewaySpec


KINDS: dict[str, type[Part]] = {"HTTPRoute": HttpRoute, "Gateway": Gateway}


@rule(
    "SG701",
    "a route leads to the Service of a RayService, on its port",
    "Use the name of the RayService, and `-serve-svc`.",
)
def a_route_leads_to_services_that_there_are(service: Service) -> Iterator[Finding]:
    own, strategies, ports = a_route_leads_to_services_that_there_are, _upgrade_strategies(service), _ports(service)
    others = {one.name for one in service.beside if one.kind == "Service"}
    for document, field, routed in _rules(service):
        if not routed.backend_refs:
            yield document.finding(own, field, "it leads to no service: its requests would get 500")
        for number, backend in enumerate(routed.backend_refs):
            name, sentence = backend.name, ""
            if name in others:
                continue
            if name not in strategies:
                sentence = f"{name} belongs to no RayService here, only {' and '.join(strategies)} do: its requests would fail"
            elif backend.port != ports[name]:
                sentence = f"{name} listens on {ports[name]}, and not on {backend.port}: its requests would fail"
            elif strategies[name] == INCREMENTAL:
                sentence = (
                    f"with {INCREMENTAL} KubeRay makes a Service for each cluster, under a random name, and {name} may have no pod "
                    "in an upgrade: take KubeRay's own Gateway, or NewCluster"
                )
            if sentence:
                yield document.finding(own, f"{field}.backendRefs[{number}]", sentence)


@rule(
    "SG702",
    "the shares of a split add up to 100",
    "Fix the weights.",
)
def shares_add_up_to_100(service: Service) -> Iterator[Finding]:
    for document, field, routed in _rules(service):
        weights = [backend.weight for backend in routed.backend_refs]
        if len(weights) > 1 and sum(weights) != 100:
            added = " + ".join(map(str, weights))
            sentence = f"the weights are meant as percent, and {added} is {sum(weights)}: make them add up to 100"
            yield document.finding(shares_add_up_to_100, f"{field}.backendRefs", sentence)


@rule(
    "SG703",
    "a route waits longer than a request may take",
    "State `timeouts.request`, such as 180s.",
)
def a_route_outlasts_the_deadline(service: Service) -> Iterator[Finding]:
    deadline_s = longest_deadline_s(service)
    for document, field, routed in _rules(service):
        for name, duration in (("request", routed.timeouts.request), ("backendRequest", routed.timeouts.backend_request)):
            timeout_s = None if duration is None else _seconds(duration)
            if duration is not None and timeout_s is None:
                sentence = f"it is {duration or 'not stated'}, and Envoy then ends a request after 15 s: state it, such as 180s"
            elif timeout_s is not None and 0 < timeout_s <= deadline_s:
                sentence = (
                    f"{timeout_s:g} s is not above the deadline (setting http.deadline_s, {deadline_s:g} s): "
                    "the gateway would end a request that still has time"
                )
            else:  # 0s is no timeout
                continue
            yield document.finding(a_route_outlasts_the_deadline, f"{field}.timeouts.{name}", sentence)


@rule(
    "SG704",
    "a route leads clients to no path that is for operators",
    "Name the paths that clients need.",
)
def a_route_leaves_out_what_is_private(service: Service) -> Iterator[Finding]:
    own = a_route_leaves_out_what_is_private
    for document, field, routed in _rules(service):
        found = [path for path in PRIVATE if any(match.takes_get(path) for match in routed.matches or [Match()])]
        if found:
            sentence = (
                f"it lets GET {', '.join(found)} through, which shows clients what runs where: name the paths that they need"
            )
            yield document.finding(own, f"{field}.matches", sentence, WARNING)


@rule(
    "SG705",
    "a route repeats no request",
    "Leave `retry` out.",
)
def a_route_sends_no_request_twice(service: Service) -> Iterator[Finding]:
    for document, field, routed in _rules(service):
        if routed.retry.attempts:
            sentence = (
                "the gateway would send a request again that a service may have begun, and its picture would be drawn twice: "
                "leave it out, the service repeats what a dead replica had"
            )
            yield document.finding(a_route_sends_no_request_twice, f"{field}.retry", sentence, WARNING)


@rule(
    "SG706",
    "a listener with TLS has a certificate",
    "Name its Secret.",
)
def a_listener_with_tls_has_a_certificate(service: Service) -> Iterator[Finding]:
    for document, gateway in _parsed(service, Gateway):
        for number, listener in enumerate(gateway.spec.listeners):
            if listener.protocol in ("HTTPS", "TLS") and listener.tls.mode == "Terminate" and not listener.tls.certificate_refs:
                sentence = f"{listener.name} is {listener.protocol} and names no certificate, so no client could connect: name its Secret"
                field = f"spec.listeners[{number}].tls.certificateRefs"
                yield document.finding(a_listener_with_tls_has_a_certificate, field, sentence)


def _seconds(duration: str) -> float | None:
    """The seconds of a duration of Gateway API (GEP-2257), such as 2m30s; None for any other text."""
    if not re.fullmatch("([0-9]{1,5}(h|m|s|ms)){1,4}", duration):
        return None
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall("([0-9]+)(ms|h|m|s)", duration))


def _ports(service: Service) -> dict[str, int]:
    """The port of Serve of each RayService in the folder, by the name of its Service."""
    found = {}
    for document in (service.document, *service.beside):
        if document.kind == "RayService":
            config = None
            with contextlib.suppress(yaml.YAMLError, LookupError, AttributeError, TypeError):
                config = yaml.load(document.spec["serveConfigV2"], Loader=LOADER)
            found[serve_service(document.name)] = serve_port(config)
    return found


def _upgrade_strategies(service: Service) -> dict[str, str]:
    """The kind of upgrade of each RayService in the folder, by the name of its Service."""
    contents = [document.content for document in (service.document, *service.beside)]
    return {
        serve_service((one.get("metadata") or {}).get("name", "")): ((one.get("spec") or {}).get("upgradeStrategy") or {}).get(
            "type", ""
        )
        for one in contents
        if one.get("kind") == "RayService"
    }


def _rules(service: Service) -> Iterator[tuple[Document, str, RouteRule]]:
    """Each rule of each HTTPRoute in the folder, with its field, but for those that redirect."""
    for document, route in _parsed(service, HttpRoute):
        for number, routed in enumerate(route.spec.rules):
            if not routed.redirects:
                yield document, f"spec.rules[{number}]", routed


def _parsed[Kind: Part](service: Service, kind: type[Kind]) -> Iterator[tuple[Document, Kind]]:
    """Each document in the folder of this kind that is well formed."""
    for document in service.beside:
        if KINDS.get(str(document.content.get("kind"))) is kind:
            with contextlib.suppress(ValidationError):
                yield document, kind.model_validate(document.content)
