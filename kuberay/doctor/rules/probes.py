"""Rules: the probes of containers. KubeRay adds its own to Ray's container where it has none."""

from collections.abc import Iterator
from typing import Any

from deployments.nearest import question
from kuberay.doctor.finding import ERROR, WARNING, Finding, Severity, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import PodContainer, PodTemplate, mapping, mappings, pod_templates, whole
from kuberay.doctor.rules.containers import ray_ports, serve_port

PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
HANDLERS = {"httpGet", "tcpSocket", "exec", "grpc"}
OF_PROXY = ("/-/healthz", "/-/routes")
"""Paths that Serve's proxy itself answers."""
OURS = "graphs."
"""Beginning of the import paths of this project's apps."""
OF_APP = ("healthz", "readyz", "docs", "openapi.json", "page", "graph", "v1", "")
"""First parts of the paths that an app of this project has."""
ADDED = {"metrics", "as-metrics", "dash-metrics"}
"""Names of the ports that KubeRay adds to Ray's container."""
IMPATIENT_S = 10
"""A liveness probe that fails within this ends processes that are only busy."""


def probes(template: PodTemplate) -> Iterator[tuple[PodContainer, str, str, dict[str, Any]]]:
    """Yield container, place, kind and probe."""
    for one in template.containers:
        for kind in PROBES:
            if isinstance(one.content.get(kind), dict):
                yield one, f"{one.place}.{kind}", kind, one.content[kind]


@rule(
    "SG427",
    "a probe has one way of asking, and thresholds that Kubernetes takes",
    "Leave one of `httpGet`, `tcpSocket`, `exec` and `grpc`; `successThreshold` is 1 but for a readiness probe.",
)
def a_probe_is_one_that_kubernetes_takes(service: Service) -> Iterator[Finding]:
    own = a_probe_is_one_that_kubernetes_takes
    for template in pod_templates(service):
        for one, place, kind, probe in probes(template):
            asks = sorted(HANDLERS & set(probe))
            if len(asks) > 1:
                sentence = f"it asks by {' and '.join(asks)}: a probe asks in one way, and the pod is refused"
                yield template.document.finding(own, place, sentence)
            elif not asks:
                sentence = "it says not how to ask (httpGet, tcpSocket, exec or grpc): the pod is refused"
                yield template.document.finding(own, place, sentence)
            if kind != "readinessProbe" and whole(probe.get("successThreshold"), 1) not in (0, 1):
                sentence = f"it is {probe.get('successThreshold')}, and has to be 1 for a {kind}: the pod is refused"
                yield template.document.finding(own, f"{place}.successThreshold", sentence)
            if one.init and not one.stays:
                sentence = "a container of the start that ends by itself has no probes: the pod is refused"
                yield template.document.finding(own, place, sentence)


@rule(
    "SG428",
    "a probe asks a port and a path that its container answers",
    "Leave the probe out (KubeRay adds its own), or ask `/-/healthz` of the port `serve`.",
)
def a_probe_asks_what_answers(service: Service) -> Iterator[Finding]:
    own = a_probe_asks_what_answers
    for template in pod_templates(service):
        for one, place, kind, probe in probes(template):
            for handler in ("httpGet", "tcpSocket", "grpc"):
                asked = mapping(probe.get(handler))
                port = asked.get("port")
                if port is None or asked.get("host"):
                    continue
                found, hint, severity = _of_port(service, template, one, port)
                if found:
                    sentence = f"{found}, so {_happens(kind)}{hint}"
                    yield template.document.finding(own, f"{place}.{handler}.port", sentence, severity)
                elif one.ray and handler == "httpGet" and _number(one, port) == serve_port(service):
                    for field, found, hint in _of_path(service, asked):
                        sentence = f"{found}, so {_happens(kind)}{hint}"
                        yield template.document.finding(own, f"{place}.httpGet.{field}", sentence)


def _happens(kind: str) -> str:
    return "the pod is never ready" if kind == "readinessProbe" else "the container is ended again and again"


def _number(one: PodContainer, port: Any) -> int:
    """The number of a port that a probe names."""
    if isinstance(port, str) and not port.isdecimal():
        return next((whole(other.get("containerPort")) for _, other in one.ports if other.get("name") == port), 0)
    return int(port) if isinstance(port, str | int) else 0


def _of_port(service: Service, template: PodTemplate, one: PodContainer, port: Any) -> tuple[str, str, Severity]:
    """Return what is wrong with a probe's port, what may be meant, and how certain that is."""
    names = {str(other.get("name")) for _, other in one.ports} | (ADDED if one.ray else set())
    if isinstance(port, str) and not port.isdecimal():
        return ("" if port in names else f"the container has no port {port}"), question(port, names), ERROR
    number = _number(one, port)
    if not 0 < number < 65536:
        return f"{number} is no port", "", ERROR
    declared = {whole(other.get("containerPort")) for each in template.containers for _, other in each.ports}
    if template.ray:
        declared |= {*ray_ports(template), serve_port(service)}
    if number in declared or (not one.ray and not one.ports):
        return "", "", ERROR
    return f"no container of the pod has the port {number}", "", ERROR if one.ray else WARNING


def _of_path(service: Service, asked: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the field, what is wrong with a question to Serve's port, and what may be meant."""
    if asked.get("scheme") == "HTTPS":
        yield "scheme", "Serve's port speaks plain HTTP", ""
        return
    path = str(asked.get("path", "/")).partition("?")[0]
    if path in OF_PROXY:
        return
    applications = [one for _, one in mappings(mapping(service.config).get("applications"))]
    prefixes = {str(one.get("route_prefix", "/")).rstrip("/"): str(one.get("import_path", "")) for one in applications}
    below = sorted((one for one in prefixes if f"{path}/".startswith(f"{one}/")), key=len)
    known = [*OF_PROXY, *(f"{one}/{last}" for one in prefixes for last in ("healthz", "readyz"))]
    first = path.removeprefix(below[-1]).strip("/").partition("/")[0] if below else ""
    if not below or path.startswith("/-/") or (prefixes[below[-1]].startswith(OURS) and first not in OF_APP):
        yield "path", f"nothing answers {path} of Serve's port", question(path, known)


@rule(
    "SG429",
    "a liveness probe is patient",
    "Raise `failureThreshold` or `periodSeconds`, or leave the probe out.",
)
def a_liveness_probe_is_patient(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one, place, kind, probe in probes(template):
            period, failures = (
                whole(probe.get(name)) or default for name, default in (("periodSeconds", 10), ("failureThreshold", 3))
            )
            if kind == "livenessProbe" and period * failures < IMPATIENT_S:
                sentence = (
                    f"{failures} failures, {period} s apart, end the container {one.name}: "
                    "it would be killed, with its requests, while it is only busy"
                )
                yield template.document.finding(a_liveness_probe_is_patient, place, sentence, WARNING)
