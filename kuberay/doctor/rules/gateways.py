"""Rules: a route is attached to a listener of its Gateway, and an Ingress leads to the service and waits for its answer."""

import re
from collections.abc import Iterator
from typing import Any

from kuberay import app
from kuberay.doctor.documents import Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.folder import documents, meets, services
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.rules.times import longest_deadline_s
from kuberay.doctor.untyped import at, mapping, mappings

NGINX = "nginx.ingress.kubernetes.io/"
READ_TIMEOUT_S, BODY = 60.0, "1m"
"""Defaults of ingress-nginx."""
UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@rule(
    "SG780",
    "a route is attached to a Gateway that there is",
    "Use the name and the namespace of the Gateway.",
)
def a_route_has_a_gateway(service: Service) -> Iterator[Finding]:
    gateways = documents(service, "Gateway")
    for route, index, parent in _parents(service):
        name, space = str(parent.get("name", "")), _space(route, parent)
        if not gateways or any(one.name == name and meets(one.namespace, space) for one in gateways):
            continue
        place = f"spec.parentRefs[{index}]"
        elsewhere = [one for one in gateways if one.name == name]
        if elsewhere:
            there = elsewhere[0].namespace
            sentence = f"Gateway {name} is in {there}, and not in {space}, where the route looks for it: name its namespace"
            yield route.finding(a_route_has_a_gateway, place, sentence)
        elif like := near(name, [one.name for one in gateways], [one.name for one in gateways]):
            sentence = f"there is no Gateway {name} in the folder, and without one no request comes in: did you mean {like}?"
            yield route.finding(a_route_has_a_gateway, f"{place}.name", sentence)


@rule(
    "SG781",
    "a route names a listener that its Gateway has",
    "Use the name of the listener, and its port.",
)
def a_route_has_a_listener(service: Service) -> Iterator[Finding]:
    for route, index, parent, gateway in _attached(service):
        place, listeners = f"spec.parentRefs[{index}]", [one for _, one in mappings(gateway.spec.get("listeners"))]
        names, ports = [str(one.get("name")) for one in listeners], [one.get("port") for one in listeners]
        section, port = parent.get("sectionName"), parent.get("port")
        if section is not None and section not in names:
            like = near(str(section), names)
            remedy = f"did you mean {like}?" if like else f"it has {', '.join(names)}"
            sentence = f"Gateway {gateway.name} has no listener {section}, so the route is not attached: {remedy}"
            yield route.finding(a_route_has_a_listener, f"{place}.sectionName", sentence)
        elif port is not None and port not in ports:
            on = " and ".join(map(str, ports))
            sentence = f"Gateway {gateway.name} has no listener on {port}, only on {on}: the route is not attached"
            yield route.finding(a_route_has_a_listener, f"{place}.port", sentence)


@rule(
    "SG782",
    "a listener takes the hosts of its routes",
    "Name the host in a listener, or leave the listener's hostname out.",
)
def a_listener_takes_the_hosts(service: Service) -> Iterator[Finding]:
    for route in documents(service, "HTTPRoute"):
        gateways = [gateway for one, _, _, gateway in _attached(service) if one is route]
        parents = [index for _, index, _ in _parents(service, route)]
        taken = [
            str(listener.get("hostname", ""))
            for one, _, parent, gateway in _attached(service)
            if one is route
            for _, listener in mappings(gateway.spec.get("listeners"))
            if parent.get("sectionName") in (None, listener.get("name")) and parent.get("port") in (None, listener.get("port"))
        ]
        hosts = route.spec.get("hostnames")
        if not taken or len(gateways) != len(parents) or not isinstance(hosts, list):
            continue
        for index, host in enumerate(map(str, hosts)):
            if not any(_meet(host, one) for one in taken):
                sentence = (
                    f"no listener that the route is attached to takes {host}, only {', '.join(taken)}: its requests get 404"
                )
                yield route.finding(a_listener_takes_the_hosts, f"spec.hostnames[{index}]", sentence)


@rule(
    "SG783",
    "a Gateway takes routes of their namespace",
    "Set `allowedRoutes.namespaces.from` of the listener, or put both into one namespace.",
)
def a_gateway_takes_the_routes(service: Service) -> Iterator[Finding]:
    for route, index, parent, gateway in _attached(service):
        if meets(route.namespace, gateway.namespace):
            continue
        listeners = [
            one for _, one in mappings(gateway.spec.get("listeners")) if parent.get("sectionName") in (None, one.get("name"))
        ]
        if listeners and all(at(one, "allowedRoutes", "namespaces", "from") in (None, "Same", "None") for one in listeners):
            sentence = (
                f"Gateway {gateway.name} is in {gateway.namespace} and takes routes of its own namespace alone, and the route is in "
                f"{route.namespace}: it is not attached. Set allowedRoutes.namespaces.from of the listener"
            )
            yield route.finding(a_gateway_takes_the_routes, f"spec.parentRefs[{index}]", sentence)


@rule(
    "SG784",
    "an Ingress leads to a Service that there is, on its port",
    "Use the name of the RayService and `-serve-svc`, and port 8000.",
)
def an_ingress_leads_to_a_service(service: Service) -> Iterator[Finding]:
    targets = {one.name: one for one in services(service)}
    for document in documents(service, "Ingress"):
        backends = list(_backends(document))
        leads_here = any(str(backend.get("name")) in targets for _, backend in backends)
        for place, backend in backends:
            name, port = str(backend.get("name", "")), mapping(backend.get("port"))
            target = targets.get(name)
            if target is None:
                like = near(name, targets) or next((one for one in targets if one.startswith(f"{name}-")), "")
                if like or not leads_here:
                    made = [one.name for one in targets.values() if one.name.endswith("-serve-svc")]
                    remedy = f"did you mean {like}?" if like else f"KubeRay makes {' and '.join(made)}"
                    sentence = f"no Service {name} is in the folder, nor does KubeRay make it: requests get 503. {remedy}"
                    yield document.finding(an_ingress_leads_to_a_service, f"{place}.name", sentence)
            elif ("number" in port and port["number"] not in list(target.ports.values())) or (
                "name" in port and str(port["name"]) not in target.ports
            ):
                ports = ", ".join(f"{number} ({key})" for key, number in target.ports.items())
                sentence = f"{name} has no port {port.get('number', port.get('name'))}, so requests get 503: it has {ports}"
                yield document.finding(an_ingress_leads_to_a_service, f"{place}.port", sentence)


@rule(
    "SG785",
    "an Ingress of nginx waits longer than a request may take",
    "Set `nginx.ingress.kubernetes.io/proxy-read-timeout` above the deadline, in seconds without a unit.",
)
def an_ingress_outlasts_the_deadline(service: Service) -> Iterator[Finding]:
    deadline_s = longest_deadline_s(service)
    for document in _of_nginx(service):
        name = f"{NGINX}proxy-read-timeout"
        stated = mapping(document.metadata.get("annotations")).get(name)
        value = re.fullmatch(r"(\d+)s?", str(stated)) if stated is not None else None
        timeout_s = float(value[1]) if value else READ_TIMEOUT_S
        if timeout_s <= deadline_s:
            found = f"it is {stated}" if stated is not None else f"it is not stated, and nginx waits {READ_TIMEOUT_S:g} s"
            deadline = f"the deadline (setting http.deadline_s, {deadline_s:g} s)"
            sentence = f"{found}, which is not above {deadline}: slow requests get 504. State more"
            place = f"metadata.annotations.{name}" if stated is not None else "metadata.annotations"
            yield document.finding(an_ingress_outlasts_the_deadline, place, sentence, WARNING)


@rule(
    "SG786",
    "an Ingress of nginx lets uploads through that the service takes",
    "Set `nginx.ingress.kubernetes.io/proxy-body-size` to http.max_upload_bytes or more, such as 32m.",
)
def an_ingress_takes_uploads(service: Service) -> Iterator[Finding]:
    most = max((_upload_bytes(one) for one in service.config["applications"]), default=0)
    for document in _of_nginx(service):
        name = f"{NGINX}proxy-body-size"
        stated = mapping(document.metadata.get("annotations")).get(name)
        size = re.fullmatch(r"(\d+)([kmg]?)", str(stated if stated is not None else BODY).lower())
        if size is None or not int(size[1]) or int(size[1]) * UNITS[size[2]] >= most:
            continue
        found = f"it is {stated}" if stated is not None else f"it is not stated, and nginx takes {BODY}"
        sentence = f"{found}, less than an upload may have (setting http.max_upload_bytes, {most}): larger recordings get 413. State more"
        place = f"metadata.annotations.{name}" if stated is not None else "metadata.annotations"
        yield document.finding(an_ingress_takes_uploads, place, sentence, WARNING)


def _upload_bytes(application: Any) -> int:
    """The longest body that the app takes; 0 for an app of another kind."""
    try:
        return int(app.settings(application).http.max_upload_bytes)
    except Exception:  # rules of their own report it
        return 0


def _of_nginx(service: Service) -> Iterator[Document]:
    """The Ingresses of ingress-nginx that lead to the RayService."""
    own = {one.name for one in services(service) if one.document is service.document}
    for one in documents(service, "Ingress"):
        annotations = mapping(one.metadata.get("annotations"))
        of = str(one.spec.get("ingressClassName", annotations.get("kubernetes.io/ingress.class", "")))
        is_nginx = "nginx" in of or any(str(name).startswith(NGINX) for name in annotations)
        if is_nginx and any(str(backend.get("name")) in own for _, backend in _backends(one)):
            yield one


def _backends(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    default = at(document.content, "spec", "defaultBackend", "service")
    if isinstance(default, dict):
        yield "spec.defaultBackend.service", default
    for number, routed in mappings(document.spec.get("rules")):
        for index, path in mappings(at(routed, "http", "paths")):
            backend = at(path, "backend", "service")
            if isinstance(backend, dict):
                yield f"spec.rules[{number}].http.paths[{index}].backend.service", backend


def _parents(service: Service, only: Document | None = None) -> Iterator[tuple[Document, int, dict[str, Any]]]:
    for route in documents(service, "HTTPRoute"):
        for index, parent in mappings(route.spec.get("parentRefs")):
            if parent.get("kind", "Gateway") == "Gateway" and only in (None, route):
                yield route, index, parent


def _attached(service: Service) -> Iterator[tuple[Document, int, dict[str, Any], Document]]:
    """Each route with each Gateway of the folder that it names."""
    for route, index, parent in _parents(service):
        for gateway in documents(service, "Gateway"):
            if gateway.name == parent.get("name") and meets(gateway.namespace, _space(route, parent)):
                yield route, index, parent, gateway


def _space(route: Document, parent: dict[str, Any]) -> str:
    return str(parent.get("namespace", route.namespace))


def _meet(host: str, other: str) -> bool:
    """Whether two host names, of which either may begin with a wildcard, have a host in common."""
    if not other or host == other:
        return True
    if other.startswith("*.") and not host.startswith("*."):
        return host.endswith(other[1:])
    if host.startswith("*.") and not other.startswith("*."):
        return other.endswith(host[1:])
    return host.startswith("*.") and other.startswith("*.") and (host.endswith(other[1:]) or other.endswith(host[1:]))
