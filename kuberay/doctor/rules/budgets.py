"""Rules: pods keep within a namespace's LimitRange and ResourceQuota."""

from collections.abc import Iterator
from decimal import Decimal

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import PodContainer, PodTemplate, pod_templates
from kuberay.doctor.untyped import amounts, mapping, mappings

NAMES = {"cpu": "requests.cpu", "memory": "requests.memory", "ephemeral-storage": "requests.ephemeral-storage"}
"""Short names of a quota for the requests."""
Amounts = dict[str, Decimal]


def _ranges(service: Service, template: PodTemplate, kind: str) -> Iterator[dict[str, Amounts]]:
    """Yield the amounts of each item of this kind of the LimitRanges of a pod's namespace."""
    for one in service.beside:
        if one.kind == "LimitRange" and one.namespace == template.namespace:
            for _, item in mappings(one.spec.get("limits")):
                if item.get("type") == kind:
                    yield {name: amounts(item.get(name)) for name in ("default", "defaultRequest", "max", "min")}


def with_limit_range(service: Service, template: PodTemplate, one: PodContainer) -> tuple[Amounts, Amounts]:
    """Return a container's requests and limits, with those that a LimitRange adds."""
    limits, stated = one.limits, amounts(mapping(one.content.get("resources")).get("requests"))
    requests = {**limits, **stated}
    for each in _ranges(service, template, "Container"):
        defaults = {**each["max"], **each["default"]}
        asked = {**each["min"], **defaults, **each["defaultRequest"]}
        limits = {**defaults, **limits}
        requests = {**asked, **requests}
    return requests, limits


@rule(
    "SG443",
    "every container keeps within the LimitRange of its namespace",
    "State requests and limits within it, or change the LimitRange.",
)
def a_container_keeps_within_the_limit_range(service: Service) -> Iterator[Finding]:
    own = a_container_keeps_within_the_limit_range
    for template in pod_templates(service):
        whole = [
            (template.place, "the pod", template.requests, template.taken(lambda one: one.limits), each)
            for each in _ranges(service, template, "Pod")
        ]
        for one in template.every:
            requests, limits = with_limit_range(service, template, one)
            place = f"{one.place}.resources"
            whole += [
                (place, f"the container {one.name}", requests, limits, each) for each in _ranges(service, template, "Container")
            ]
            for name, number in one.requests.items():
                if name not in one.limits and number > limits.get(name, number):
                    sentence = (
                        f"{name}: {number:f} is requested without a limit, and the LimitRange sets the limit "
                        f"{limits[name]:f}, which is less: the pod is refused"
                    )
                    yield template.document.finding(own, place, sentence)
        for place, what, requests, limits, each in whole:
            for name, most in each["max"].items():
                if max(limits.get(name, Decimal(0)), requests.get(name, Decimal(0))) > most:
                    sentence = f"{name}: {what} has more than the LimitRange's most, {most:f}: the pod is refused"
                    yield template.document.finding(own, place, sentence)
            for name, least in each["min"].items():
                if requests.get(name, least) < least:
                    sentence = f"{name}: {what} requests less than the LimitRange's least, {least:f}: the pod is refused"
                    yield template.document.finding(own, place, sentence)


@rule(
    "SG444",
    "the pods of the start fit the ResourceQuota of their namespace, and so does a second cluster in an upgrade",
    "Raise the quota, or ask for less.",
)
def the_pods_that_start_fit_the_quota(service: Service) -> Iterator[Finding]:
    for document in service.beside:
        if document.kind == "ResourceQuota" and not document.spec.get("scopes") and not document.spec.get("scopeSelector"):
            yield from _of_quota(service, document)


def _of_quota(service: Service, document: Document) -> Iterator[Finding]:
    own, hard = the_pods_that_start_fit_the_quota, amounts(document.spec.get("hard"))
    inside = [one for one in pod_templates(service) if one.namespace == document.namespace]
    for stated, most in hard.items():
        name = NAMES.get(stated, stated)
        place = f"spec.hard.{stated}"
        kind, _, resource = name.partition(".")
        if name in ("pods", "count/pods"):
            used = [(one, Decimal(one.count.start)) for one in inside]
        elif kind in ("requests", "limits") and resource and resource != "storage":
            lacking = list(_lacking(service, inside, kind, resource))
            for template, one in lacking:
                sentence = (
                    f"it states no {resource} among its {kind}, and the quota {document.name} counts it: the pod is refused"
                )
                yield template.document.finding(own, f"{one.place}.resources.{kind}", sentence)
            used = (
                []
                if lacking
                else [(one, one.count.start * _of_pod(service, one, kind).get(resource, Decimal(0))) for one in inside]
            )
        else:
            continue
        start = sum((number for _, number in used), Decimal(0))
        second = sum((number for one, number in used if one.document is service.document), Decimal(0))
        upgrades = service.parsed.spec.upgrade_strategy.get("type", "NewCluster") != "None"
        if start > most:
            yield document.finding(own, place, f"the pods of the start take {start:f}, and it is {most:f}: the last do not start")
        elif upgrades and start + second > most:
            sentence = f"an upgrade starts a second cluster, both take {start + second:f}, and it is {most:f}: it would wait"
            yield document.finding(own, place, sentence, WARNING)


def _lacking(service: Service, inside: list[PodTemplate], kind: str, resource: str) -> Iterator[tuple[PodTemplate, PodContainer]]:
    """Yield the containers that state no CPU or memory. Of other resources a quota counts what is stated."""
    for template in inside if resource in ("cpu", "memory") else ():
        for one in template.every:
            if resource not in with_limit_range(service, template, one)[kind == "limits"]:
                yield template, one


def _of_pod(service: Service, template: PodTemplate, kind: str) -> Amounts:
    """Return the `requests` or `limits` of a pod, with those that a LimitRange adds."""
    return template.taken(lambda one: with_limit_range(service, template, one)[kind == "limits"])
