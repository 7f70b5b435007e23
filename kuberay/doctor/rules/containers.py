"""Rules: names, ports, variables and images of a pod's containers."""

import re
from collections.abc import Iterator
from typing import Any

from deployments.nearest import question
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import CLUSTER, PodContainer, PodTemplate, pod_templates
from kuberay.doctor.untyped import mapping, whole
from kuberay.manifest.objects import HEAD_PORTS, PORTS

PORT_NAME = re.compile(r"(?=.*[a-z])(?!.{16})[a-z0-9](-?[a-z0-9])*")
REFERENCE = re.compile(
    r"(?P<name>[a-z0-9]+([._/-]+[a-z0-9]+)*|[\w.-]+(:\d+)?/[a-z0-9]+([._/-]+[a-z0-9]+)*)(?P<tag>:\w[\w.-]{0,127})?"
)
DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")
REFERRED = re.compile(r"(\$\$)|\$\(([A-Za-z_][\w.-]*)\)")
FROM_KUBERNETES = re.compile(r"(RAY|KUBERAY|KUBERNETES|FQ_RAY_IP|SERVE)(_.*)?|.*_(SERVICE_HOST|SERVICE_PORT|PORT)(_.*)?")
"""Variables that Kubernetes and KubeRay set themselves."""
OF_WORKERS = range(10002, 20000)
"""Ports of which Ray's own processes on a node take some."""


def ray_ports(template: PodTemplate) -> dict[int, str]:
    """The ports that Ray listens on in a pod, declared or not, and what for."""
    ports = {"dashboard-agent-listen-port": (52365, "Ray's agent"), "metrics-export-port": (PORTS["metrics"], "Ray's metrics")}
    if template.node_type == "head":
        ports |= {
            "port": (HEAD_PORTS["gcs"], "Ray's control store"),
            "dashboard-port": (HEAD_PORTS["dashboard"], "Ray's dashboard"),
        }
        ports |= {"ray-client-server-port": (HEAD_PORTS["client"], "Ray's client")}
    found = {}
    for name, (default, use) in ports.items():
        stated = str(template.params.get(name, default))
        found[int(stated) if stated.isdecimal() else default] = use
    return found


@rule(
    "SG420",
    "a name stands once among a pod's containers, its volumes, and a container's ports and variables",
    "Rename all but one, or leave them out.",
)
def a_name_stands_once_in_a_pod(service: Service) -> Iterator[Finding]:
    own = a_name_stands_once_in_a_pod
    for template in pod_templates(service):
        document, containers = template.document, template.containers
        for place, name in _twice([(one.place, one.content.get("name")) for one in containers]):
            yield document.finding(own, f"{place}.name", f"two containers of the pod are named {name}: the pod is refused")
        for place, name in _twice([(template.at(f"volumes[{index}]"), one.get("name")) for index, one in template.volumes]):
            yield document.finding(own, f"{place}.name", f"two volumes of the pod are named {name}: the pod is refused")
        for one in containers:
            ports = [(f"{one.place}.ports[{index}]", port.get("name")) for index, port in one.ports]
            for place, name in _twice(ports):
                yield document.finding(own, f"{place}.name", f"two ports of the container are named {name}: the pod is refused")
            for place, name in _twice([(f"{one.place}.env[{index}]", env.get("name")) for index, env in one.env]):
                sentence = f"{name} stands twice in the container's env, and the last one counts: leave the other out"
                yield document.finding(own, f"{place}.name", sentence, WARNING)
        ports = [(f"{one.place}.ports[{i}]", port.get("name")) for one in containers if not one.init for i, port in one.ports]
        within = {(place, name) for one in containers for place, name in _twice([p for p in ports if p[0].startswith(one.place)])}
        for place, name in _twice(ports):
            if (place, name) not in within:
                sentence = f"two containers of the pod have a port {name}: a Service that names it takes either"
                yield document.finding(own, f"{place}.name", sentence, WARNING)


def _twice(named: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the place and the name of each one whose name another has before it."""
    seen = set[str]()
    for place, name in named:
        if isinstance(name, str) and name in seen:
            yield place, name
        seen.add(str(name))


@rule(
    "SG421",
    "a port's name is one of IANA's form",
    "Use at most 15 of a-z, 0-9 and -, and a letter among them.",
)
def a_port_is_well_formed(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one in template.containers:
            for index, port in one.ports:
                name = port.get("name")
                if isinstance(name, str) and not PORT_NAME.fullmatch(name):
                    sentence = (
                        f"{name} is no name of a port: at most 15 of a-z, 0-9 and -, a letter among them; the pod is refused"
                    )
                    yield template.document.finding(a_port_is_well_formed, f"{one.place}.ports[{index}].name", sentence)
                on_host = port.get("hostPort")
                if template.spec.get("hostNetwork") is True and on_host not in (None, port.get("containerPort")):
                    sentence = f"with hostNetwork it has to be the containerPort, {port.get('containerPort')}: the pod is refused"
                    yield template.document.finding(a_port_is_well_formed, f"{one.place}.ports[{index}].hostPort", sentence)


@rule(
    "SG422",
    "one process of a pod listens on a port",
    "Use another port: the containers of a pod share one address.",
)
def a_port_has_one_listener(service: Service) -> Iterator[Finding]:
    own = a_port_has_one_listener
    for template in pod_templates(service):
        document = template.document
        taken: dict[tuple[int, str], tuple[PodContainer, str]] = {}
        hosts = set[tuple[int, str, str]]()
        ray = template.ray
        used = ray_ports(template) | {service.port: "Serve"} if ray else {}
        for one in (one for one in template.containers if one.stays):
            for index, port in one.ports:
                place, number = f"{one.place}.ports[{index}]", whole(port.get("containerPort"))
                protocol = str(port.get("protocol", "TCP"))
                other = taken.setdefault((number, protocol), (one, place))
                if other[1] != place and other[0] is one:
                    sentence = f"{number} stands twice in the container: leave one out"
                    yield document.finding(own, f"{place}.containerPort", sentence, WARNING)
                elif other[1] != place:
                    sentence = f"{number} is a port of the container {other[0].name} too: one of both cannot listen, and ends"
                    yield document.finding(own, f"{place}.containerPort", sentence)
                elif not one.ray and number in used and protocol == "TCP":
                    sentence = f"{number} is the port of {used[number]} in this pod: one of both cannot listen, and ends"
                    yield document.finding(own, f"{place}.containerPort", sentence)
                elif ray and not one.ray and number in OF_WORKERS and protocol == "TCP":
                    sentence = (
                        f"{number} is among those that Ray gives its own processes ({OF_WORKERS[0]} to {OF_WORKERS[-1]}): "
                        "both may want it"
                    )
                    yield document.finding(own, f"{place}.containerPort", sentence, WARNING)
                on_host = (whole(port.get("hostPort")), protocol, str(port.get("hostIP", "")))
                if on_host[0] and on_host in hosts:
                    yield document.finding(own, f"{place}.hostPort", f"{on_host[0]} stands twice in the pod: it is refused")
                hosts.add(on_host)
        if template.node_type and template.spec.get("hostNetwork") is True:
            sentence = "every Ray pod listens on the same ports, so a node could have one only: a second one there ends at once"
            yield document.finding(own, template.at("hostNetwork"), sentence, WARNING)


@rule(
    "SG423",
    "a variable has a name and one source",
    "Leave `value` or `valueFrom`, and one source there.",
)
def a_variable_has_one_source(service: Service) -> Iterator[Finding]:
    own = a_variable_has_one_source
    for template in pod_templates(service):
        for one in template.containers:
            for index, env in one.env:
                place, name = f"{one.place}.env[{index}]", str(env.get("name", ""))
                if not name or "=" in name or not name.isprintable():
                    sentence = f"{name!r} is no name of a variable: the pod is refused"
                    yield template.document.finding(own, f"{place}.name", sentence)
                if env.get("value") and "valueFrom" in env:
                    sentence = f"{name} has a value and a source (valueFrom): Kubernetes takes one only, and refuses the pod"
                    yield template.document.finding(own, place, sentence)
                sources = sorted(mapping(env.get("valueFrom")))
                if isinstance(env.get("valueFrom"), dict) and len(sources) != 1:
                    sentence = (
                        f"{name} is from {' and '.join(sources) or 'nothing'}: one source is needed, and the pod is refused"
                    )
                    yield template.document.finding(own, f"{place}.valueFrom", sentence)


@rule(
    "SG424",
    "a variable refers to those before it",
    "Define the other one above it, or write $$(NAME) for the text itself.",
)
def a_variable_refers_to_one_before_it(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one in template.containers:
            if one.content.get("envFrom"):
                continue
            before, names = set[str](), {str(env.get("name")) for _, env in one.env}
            for index, env in one.env:
                for escaped, name in REFERRED.findall(str(env.get("value", ""))):
                    if escaped or name in before or (name not in names and FROM_KUBERNETES.fullmatch(name)):
                        continue
                    defined = "is defined below it" if name in names else "is not defined"
                    sentence = f"{name} {defined}, so the value keeps the text $({name}){question(name, before)}"
                    place = f"{one.place}.env[{index}].value"
                    yield template.document.finding(a_variable_refers_to_one_before_it, place, sentence, WARNING)
                before.add(str(env.get("name")))


@rule(
    "SG425",
    "every pod of Ray has the token that `authOptions` asks for",
    "Leave Ray's variables of the token out: KubeRay sets them, from the Secret of `authOptions`.",
)
def ray_asks_for_one_token_everywhere(service: Service) -> Iterator[Finding]:
    """A variable of the container's own stays as it is: KubeRay adds those that are not there."""
    asks = service.cluster.auth_options.get("mode") == "token"
    for template in pod_templates(service):
        if template.document is not service.document:
            continue
        for one in template.containers:
            if not one.ray and one is not template.autoscaler:
                continue
            for index, env in one.env:
                name, value = env.get("name"), env.get("value")
                place = f"{one.place}.env[{index}]"
                who = "Ray of this group" if one.ray else "the autoscaler"
                if name == "RAY_AUTH_MODE" and value is not None and asks != (str(value).lower() == "token"):
                    stated = "token" if asks else "no token"
                    sentence = f"it is {value}, and {CLUSTER}.authOptions says {stated}: {who} cannot join the others"
                    yield template.document.finding(ray_asks_for_one_token_everywhere, place, sentence)
                elif asks and name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
                    sentence = (
                        f"{name} takes the place of the token that KubeRay gives every pod: {who} cannot join if it differs"
                    )
                    yield template.document.finding(ray_asks_for_one_token_everywhere, place, sentence, WARNING)


@rule(
    "SG426",
    "an image has a name that a registry could have, and can be pulled",
    "Write it as REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, in small letters.",
)
def an_image_can_be_pulled(service: Service) -> Iterator[Finding]:
    own = an_image_can_be_pulled
    for template in pod_templates(service):
        for one in template.containers:
            place, image = f"{one.place}.image", one.content.get("image")
            if one is template.autoscaler and image is None:
                continue
            if not image:
                yield template.document.finding(own, place, f"the container {one.name} has no image: the pod is refused")
                continue
            name, _, digest = str(image).partition("@")
            found = REFERENCE.fullmatch(name)
            if not found or ("@" in str(image) and not DIGEST.fullmatch(digest)):
                why = " (only small letters)" if REFERENCE.fullmatch(name.lower()) and not found else ""
                sentence = f"{image} is no name of an image{why}: the pod waits with InvalidImageName"
                yield template.document.finding(own, place, sentence)
                continue
            if not digest and (found["tag"] or ":latest") == ":latest":
                sentence = f"{image} is whatever was pushed last: each pod may have other content. Name a tag or a digest"
                yield template.document.finding(own, place, sentence, WARNING)
            if one.content.get("imagePullPolicy") == "Never":
                sentence = f"a node without {image} does not pull it, and the pod waits with ErrImageNeverPull: take IfNotPresent"
                yield template.document.finding(own, f"{one.place}.imagePullPolicy", sentence, WARNING)
