"""Rules: the amounts that containers request and are limited to."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from deployments.nearest import question
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import OF_KUBERAY, PodContainer, PodTemplate, pod_templates
from kuberay.doctor.sizes import MIB
from kuberay.doctor.untyped import amounts, mapping

KNOWN = ("cpu", "memory", "ephemeral-storage")
"""Resources that every node has."""
LEAST_MEMORY, LEAST_OF_RAY = 4 * MIB, 256 * MIB
"""With less no container starts, and Ray's processes do not."""
MOST_CPUS, MOST_BYTES = 1024, 64 * 2**40
"""More than any node has."""
KINDS = ("requests", "limits")


def _stated(template: PodTemplate) -> Iterator[tuple[PodContainer, str, str, dict[str, Any]]]:
    """Yield container, place, kind and what is stated."""
    for one in template.containers:
        resources = mapping(one.content.get("resources"))
        for kind in KINDS:
            yield one, f"{one.place}.resources.{kind}", kind, mapping(resources.get(kind))


@rule(
    "SG430",
    "no container requests more than its limit",
    "Raise the limit, or lower the request.",
)
def a_limit_is_no_lower_than_its_request(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one in template.containers:
            limits, resources = one.limits, mapping(one.content.get("resources"))
            for name, requested in one.requests.items():
                if name in limits and requested > limits[name]:
                    stated = mapping(resources.get("requests")).get(name), mapping(resources.get("limits")).get(name)
                    sentence = f"{name}: {stated[0]} is requested, and the limit is {stated[1]}: the pod is refused"
                    place = f"{one.place}.resources.limits.{name}"
                    yield template.document.finding(a_limit_is_no_lower_than_its_request, place, sentence)


@rule(
    "SG431",
    "an amount is one that a node could have and a process could use",
    "Write memory as 512Mi or 2Gi, and CPUs as 500m or 2. `m` is a thousandth, also of a byte.",
)
def an_amount_is_a_sane_one(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one, place, kind, stated in _stated(template):
            for name, number in amounts(stated).items():
                found = _insane(one, kind, name, number, stated[name])
                if found:
                    sentence, severe = found
                    yield template.document.finding(
                        an_amount_is_a_sane_one, f"{place}.{name}", sentence, *(() if severe else (WARNING,))
                    )


def _insane(one: PodContainer, kind: str, name: str, number: Decimal, stated: Any) -> tuple[str, bool] | None:
    """Return what is wrong with an amount, and whether nothing starts."""
    limit = kind == "limits"
    happens = "the container is killed as it starts" if limit else "a node takes any number of such pods, and they are evicted"
    if number < 0:
        return f"{stated} is below 0: the pod is refused", True
    if name == "cpu" and number > MOST_CPUS:
        return f"{stated} is {number:f} CPUs, and no node has them: did you mean {number:f}m?" if number < 10**6 else (
            f"{stated} is {number:f} CPUs, and no node has them: it is the form of an amount of memory"
        ), not limit
    if name in ("memory", "ephemeral-storage"):
        if number < LEAST_MEMORY and (number or limit):
            what = " (m is a thousandth of one)" if str(stated).endswith("m") else ""
            return f"{stated} is {number:f} bytes{what}: {happens}", limit
        if name == "memory" and one.ray and number < LEAST_OF_RAY and (number or limit):
            sentence = (
                f"{stated} is less than Ray's own processes need, about {LEAST_OF_RAY // MIB} MiB without any replica: {happens}"
            )
            return sentence, limit
        if number > MOST_BYTES:
            return f"{stated} is {number / 2**40:.0f} TiB, and no node has that", not limit
    if name == "cpu" and limit and number < Decimal("0.01"):
        return f"{stated} is {number:f} CPUs: nothing starts in time with less than a hundredth of one", True
    return None


@rule(
    "SG432",
    "a resource has a name that Kubernetes knows",
    "Use cpu, memory, ephemeral-storage, or the name of a device as `kubectl describe node` has it.",
)
def a_resource_has_a_name_that_kubernetes_knows(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one, place, _, stated in _stated(template):
            if one is template.autoscaler and "resources" not in one.content:
                continue
            for name in stated:
                if name in KNOWN or str(name).startswith("hugepages-"):
                    continue
                domain, _, last = str(name).rpartition("/")
                if not domain or not last:
                    known = [*KNOWN, "nvidia.com/gpu"]
                    near = question(str(name).lower(), known)
                    sentence = f"Kubernetes has no resource {name}, and the pod is refused{near}"
                    yield template.document.finding(a_resource_has_a_name_that_kubernetes_knows, f"{place}.{name}", sentence)


@rule(
    "SG433",
    "devices are whole, and requests and limits alike",
    "State a whole number of them, the same in both.",
)
def a_device_is_whole(service: Service) -> Iterator[Finding]:
    """Ray shares a GPU among replicas by `num_gpus`, and Kubernetes gives a pod whole ones."""
    for template in pod_templates(service):
        for one, place, kind, stated in _stated(template):
            found = amounts(stated)
            for name in (other for other in found if "/" in other):
                sentence = ""
                if found[name] != found[name].to_integral_value():
                    sentence = f"{name}: Kubernetes gives whole devices only, not {stated[name]}: the pod is refused"
                elif not one.ray and kind == "requests" and one.limits.get(name) != found[name]:
                    sentence = f"{name}: the limit has to be {stated[name]} too: the pod is refused"
                if sentence:
                    yield template.document.finding(a_device_is_whole, f"{place}.{name}", sentence)


@rule(
    "SG434",
    "an amount in a RayService is a whole number or a text",
    'Write it in quotes, such as "0.5", or as 500m.',
)
def an_amount_is_no_fraction_as_a_number(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        if template.document.kind not in OF_KUBERAY:
            continue
        stated = [(f"{place}.{name}", one) for _, place, _, found in _stated(template) for name, one in found.items()]
        stated += [
            (template.at(f"volumes[{index}].emptyDir.sizeLimit"), mapping(volume.get("emptyDir")).get("sizeLimit"))
            for index, volume in template.volumes
        ]
        stated += [(template.at(f"overhead.{name}"), one) for name, one in mapping(template.spec.get("overhead")).items()]
        for place, one in stated:
            if isinstance(one, float) and not one.is_integer():
                sentence = f'{one} is a fraction, and a RayService takes a whole number or a text: write "{one}"'
                yield template.document.finding(an_amount_is_no_fraction_as_a_number, place, sentence)
