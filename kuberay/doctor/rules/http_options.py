"""Rules: requests get in: Serve's proxies listen where KubeRay's Service, its probes and the drain look for them."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.manifest import SERVE_PORT, Group, Service
from kuberay.manifest.route import serve_service

SERVE = "serve"
"""KubeRay's name of the port."""
PORTS = "template.spec.containers[0].ports"


def options(service: Service) -> dict[str, Any]:
    found = service.config.get("http_options")
    return found if isinstance(found, dict) else {}


@rule(
    "SG220",
    "Serve listens on the port that its containers name `serve`",
    "Use one number for `http_options.port` and for each container's port `serve`.",
)
def serve_listens_on_the_port_of_its_containers(service: Service) -> Iterator[Finding]:
    """KubeRay's readiness probe asks a worker's port `serve`, 8000 where it has none; its Service takes the head's."""
    own, listens = serve_listens_on_the_port_of_its_containers, service.port
    head, without_service = service.cluster.head_group_spec, service.parsed.spec.serve_service is None
    for group in service.pods:
        named = group.ray.port(SERVE)
        sentence = ""
        if named is not None and named != listens:
            sentence = (
                f"Serve listens on {listens} (http_options.port), and the port {SERVE} is {named}: {_consequence(group is head)}"
            )
        elif named is None and group is head and group.ray.ports and not _serves(group):
            if without_service:
                sentence = f"the head's container names ports, and none {SERVE}: KubeRay would then make no Service, and no client gets in"
        elif named is None and group is head and listens != SERVE_PORT and not _serves(group):
            sentence = (
                f"the head's container has no port {SERVE}, so KubeRay's Service would lead to {SERVE_PORT}, not to {listens}"
            )
        elif named is None and group is not head and listens != SERVE_PORT:
            sentence = (
                f"there is no port {SERVE}, so KubeRay's probe asks {SERVE_PORT} and Serve listens on {listens}: "
                f"{_consequence(False)}"
            )
        if sentence:
            yield service.finding(own, service.field(group, PORTS), sentence)
        yield from _probe(service, group, listens)


def _serves(group: Group) -> bool:
    """Return whether KubeRay takes a port of the container into its Service: `serve`, or one such as `serve-grpc`."""
    return any(str(one.get("name")).startswith(f"{SERVE}-") or one.get("name") == SERVE for one in group.ray.ports)


def _consequence(head: bool) -> str:
    if head:
        return "KubeRay's Service would send requests to a port that nobody listens on"
    return "the pod would never be ready, and get no request"


def _probe(service: Service, group: Group, listens: int) -> Iterator[Finding]:
    asked = (group.ray.readiness_probe.get("httpGet") or {}) if isinstance(group.ray.readiness_probe, dict) else {}
    if not isinstance(asked, dict) or not str(asked.get("path", "")).startswith("/-/"):  # Serve's own paths
        return
    named = asked.get("port")
    number = group.ray.port(named) if isinstance(named, str) else named
    if named == SERVE or number == listens or number not in [one.get("containerPort") for one in group.ray.ports]:
        return  # another rule finds a port that the container does not have
    sentence = f"it asks {number}, and Serve listens on {listens}: the pod would never be ready, and get no request"
    field = service.field(group, "template.spec.containers[0].readinessProbe.httpGet.port")
    yield service.finding(serve_listens_on_the_port_of_its_containers, field, sentence)


@rule(
    "SG221",
    "Serve listens to other pods",
    "Use `host: 0.0.0.0`, or `::` for IPv6, or leave it out.",
)
def serve_listens_to_other_pods(service: Service) -> Iterator[Finding]:
    host, field = options(service).get("host"), f"{SERVE_CONFIG}: http_options.host"
    if host is None or host == "":
        return
    if str(host).lower() == "localhost" or str(host).startswith("127.") or host == "::1":
        sentence = (
            f"on {host} only the pod itself can connect: KubeRay's probe asks from inside and calls it ready, and "
            "every client is refused"
        )
    else:
        try:
            if ipaddress.ip_address(str(host)).is_unspecified:
                return
        except ValueError:
            pass
        sentence = f"{host} is the address of one pod at most, and each of the others could not listen on it: its proxy fails"
    yield service.finding(serve_listens_to_other_pods, field, sentence)


@rule(
    "SG222",
    "the pods behind the Service have a proxy",
    "Use `proxy_location: EveryNode`, or leave it out.",
)
def the_pods_behind_the_service_have_a_proxy(service: Service) -> Iterator[Finding]:
    where, severity = service.config.get("proxy_location", "EveryNode"), ERROR
    if where in ("Disabled", "NoServer"):
        sentence = f"with {where} Serve starts no proxy at all: no request over HTTP gets in"
    elif where != "HeadOnly":
        return
    elif service.parsed.spec.exclude_head_pod_from_serve_svc:
        sentence = (
            "with HeadOnly the one proxy is on the head, which the Service leaves out (excludeHeadPodFromServeSvc): it would have no "
            "pod to send requests to"
        )
    else:
        severity = WARNING
        sentence = "with HeadOnly every request goes through the head, and none is answered while it is replaced: take EveryNode"
    field = f"{SERVE_CONFIG}: proxy_location"
    yield service.finding(the_pods_behind_the_service_have_a_proxy, field, sentence, severity)


@rule(
    "SG223",
    "KubeRay's Service keeps its name, its pods and its port",
    "State only annotations, and a type, in `serveService`.",
)
def the_serve_service_keeps_its_own(service: Service) -> Iterator[Finding]:
    """KubeRay overwrites selector and labels, takes of the ports those that its own have the names of, and keeps a name."""
    own, given, listens = the_serve_service_keeps_its_own, service.parsed.spec.serve_service, service.port
    if not given:
        return
    name, usual = (given.get("metadata") or {}).get("name"), serve_service(service.parsed.metadata.name)
    if name and name != usual:
        sentence = (
            f"the Service would be {name}, and not {usual}, which routes and clients name: change them too, or leave it out"
        )
        yield service.finding(own, "spec.serveService.metadata.name", sentence, WARNING)
    spec = given.get("spec") or {}
    if spec.get("selector"):
        sentence = "KubeRay overwrites it by its own, so what it says is not what applies: leave it out"
        yield service.finding(own, "spec.serveService.spec.selector", sentence, WARNING)
    if spec.get("type") == "ExternalName":
        sentence = "ExternalName has no pods: no request would reach the service"
        yield service.finding(own, "spec.serveService.spec.type", sentence)
    head = service.cluster.head_group_spec
    takes_all = bool(head.ray.ports) and not _serves(head)
    given_ports = [one for one in spec.get("ports") or [] if isinstance(one, dict)]
    for number, one in enumerate(given_ports):
        field, leads = f"spec.serveService.spec.ports[{number}]", one.get("targetPort", one.get("port"))
        if one.get("name") == SERVE and leads not in (listens, SERVE):
            sentence = f"the Service would send requests to {leads} of the pods, and Serve listens on {listens}: state targetPort {listens}"
            yield service.finding(own, field, sentence)
        elif not takes_all and not str(one.get("name")).startswith(SERVE):
            sentence = (
                f"KubeRay drops it, since its name is not {SERVE}: {one.get('port')} would be closed. Name it {SERVE}, with "
                f"targetPort {listens}, or make a Service of your own"
            )
            yield service.finding(own, field, sentence, WARNING)
