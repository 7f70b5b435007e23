"""Rules: pods request of Kubernetes what they use, and the described nodes have it."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from graphs.serve.autoscaler import parse_quantity
from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.manifest import PodResources, Service
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.untyped import amounts, at, mapping
from kuberay.manifest.objects import GROUP
from kuberay.manifest.rayservice import NODES
from kuberay.ray_autoscaler import HEAD

GPU = re.compile(r"gpu|/mig-")
"""KubeRay's own name for the head's group, which the label of its pod has."""
EVERYWHERE = "DaemonSet"
"""Kind whose pods take a share of every node."""
ENDING = ("Job", "CronJob", "Pod")
MOST_PODS = 2000
"""Pods of one template that are packed: as many fill no described nodes that fewer do not."""
_RESOURCES = "template.spec.containers[0].resources"


def requests(resources: PodResources) -> dict[str, Decimal]:
    """The requested amounts; where only a limit is named, Kubernetes takes that."""
    return {name: parse_quantity(quantity) for name, quantity in {**resources.limits, **resources.requests}.items()}


@rule(
    "SG401",
    "every amount is a quantity of Kubernetes",
    "Write it as 500m, 2 or 4Gi.",
    first=True,
)
def every_amount_is_a_quantity(service: Service) -> Iterator[Finding]:
    """KubeRay would start Ray without the resource, with only a line in its log, and the autoscaler would stop."""
    resources = [("spec.rayClusterConfig.autoscalerOptions.resources", service.cluster.autoscaler_options.resources)]
    for group in (service.cluster.head_group_spec, *service.groups):
        resources += [
            (service.field(group, _RESOURCES), group.ray.resources),
            (service.field(group, "resources"), PodResources(requests=group.resources)),
        ]
    for field, stated in resources:
        for name, quantity in [*stated.requests.items(), *stated.limits.items()]:
            try:
                parse_quantity(quantity)
            except ValueError:
                yield service.finding(every_amount_is_a_quantity, field, f"{name}: {quantity} is no quantity of Kubernetes")


@rule(
    "SG402",
    "a pod asks Kubernetes for the CPUs that its replicas use",
    "Raise `requests.cpu`, or lower the group's CPU.",
    house=True,
)
def a_pod_requests_the_cpus_it_uses(service: Service) -> Iterator[Finding]:
    head = service.cluster.head_group_spec
    if "cpu" not in requests(head.ray.resources):
        sentence = "the head requests no CPU of Kubernetes, and runs Ray's control store and Serve's controller"
        yield service.finding(a_pod_requests_the_cpus_it_uses, service.field(head, _RESOURCES), sentence)
    for group in service.groups:
        declared, requested = service.offers(group)["CPU"], requests(group.ray.resources).get("cpu", Decimal(0))
        if requested < declared:
            sentence = (
                f"a pod of {group.group_name} requests {requested} CPUs of Kubernetes, and its replicas are declared to use {declared}: "
                "Kubernetes would put more pods on a node than can run there at their speed"
            )
            yield service.finding(a_pod_requests_the_cpus_it_uses, service.field(group, _RESOURCES), sentence)


@rule(
    "SG403",
    "memory and devices are requests and limits alike",
    "State the same amount in both.",
)
def memory_and_gpus_are_limits_too(service: Service) -> Iterator[Finding]:
    for group in (service.cluster.head_group_spec, *service.groups):
        resources = group.ray.resources
        for name in sorted({"memory", *(key for key in {**resources.requests, **resources.limits} if "/" in key)}):
            request, limit = resources.requests.get(name), resources.limits.get(name)
            if request is None or limit is None or parse_quantity(request) != parse_quantity(limit):
                sentence = (
                    f"{name} is {request} among the requests and {limit} among the limits: Ray reads the limit, Kubernetes both"
                )
                severity = service.of_house(ERROR) if name == "memory" else ERROR  # of devices Kubernetes refuses it
                yield service.finding(memory_and_gpus_are_limits_too, service.field(group, _RESOURCES), sentence, severity)


@rule(
    "SG404",
    "Ray counts the GPUs that a pod has",
    "Make the group's `GPU` and the limit agree.",
)
def ray_counts_no_more_gpus_than_a_pod_has(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        has = sum(value for name, value in requests(group.ray.resources).items() if GPU.search(name))
        counted = service.offers(group).get("GPU", 0)
        if counted > has:
            sentence = f"Ray would count {counted} GPUs on a pod of {group.group_name}, which has {has}"
            yield service.finding(ray_counts_no_more_gpus_than_a_pod_has, service.field(group, "resources"), sentence)


@rule(
    "SG405",
    "a selector of a group names one that there is",
    "Use the group's name.",
)
def a_selector_names_a_group_that_there_is(service: Service) -> Iterator[Finding]:
    names = {group.group_name for group in service.groups} | {HEAD} | set(_groups_beside(service))
    for document in (service.document, *service.beside):
        for field, name in selected(document.content):
            if name not in names:
                sentence = f"there is no group {name}, so this applies to no pod"
                yield document.finding(a_selector_names_a_group_that_there_is, field, sentence)


def _groups_beside(service: Service) -> Iterator[str]:
    """The groups of the folder's other RayServices and RayClusters."""
    for document in service.beside:
        cluster = document.spec if document.kind == "RayCluster" else document.spec.get("rayClusterConfig")
        groups = cluster.get("workerGroupSpecs") if isinstance(cluster, dict) else None
        yield from (str(one.get("groupName")) for one in groups or () if isinstance(one, dict))


def selected(value: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """Field and group of every selector that names a group."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from selected(item, f"{field}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            below = f"{field}.{key}".lstrip(".")
            if key == "matchLabels" and isinstance(item, dict) and GROUP in item:
                yield below, item[GROUP]
            else:
                yield from selected(item, below)


@rule(
    "SG406",
    "the nodes hold the pods of the start, and a second cluster in an upgrade",
    "Describe the nodes (`nodes` of the values), or ask for less.",
)
def the_pods_that_start_fit_the_nodes(service: Service) -> Iterator[Finding]:
    """Pack every kind of pod alone, then the pods of the start together: the largest first, each where it fits."""
    own = the_pods_that_start_fit_the_nodes
    try:
        nodes = described = _nodes(json.loads(service.parsed.metadata.annotations[NODES]))
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        sentence = f"it does not describe the nodes ({type(error).__name__}: {error}), so the doctor cannot tell whether the pods fit them"
        yield service.finding(own, f"metadata.annotations.{NODES}", sentence, service.of_house(WARNING))
        return
    templates = list(pod_templates(service))
    nodes = _without(nodes, [_wanted(one) for one in templates if one.document.kind == EVERYWHERE])
    own_pods = [one for one in templates if one.document is service.document]
    beside = [one for one in templates if not one.node_type]
    lasting = [one for one in beside if one.document.kind not in (EVERYWHERE, *ENDING)]
    others = _readable([one for one in templates if one.node_type and one.document is not service.document])
    homeless = False
    for one in (*own_pods, *(one for one in beside if one.count.start or one.document.kind == "CronJob")):
        if not any(_fits(_wanted(one), node) for node in (described if one.document.kind == EVERYWHERE else nodes)):
            homeless = True
            listed = ", ".join(f"{name} {value:f}" for name, value in _wanted(one).items())
            yield one.document.finding(own, _place(one), f"its pod requests {listed}, and no described node has that")
    if homeless:
        return
    start, names = _pods(own_pods), " and ".join(dict.fromkeys(one.document.name for one in others))
    place = f"metadata.annotations.{NODES}"
    if not _hold(nodes, start):
        yield service.finding(own, place, "these nodes together do not hold the pods of the start")
    elif not _hold(nodes, start + _pods(lasting)):
        sentence = f"these nodes do not hold the pods of the start beside those of {_names(lasting)}: some would wait"
        yield service.finding(own, place, sentence)
    elif others and not _hold(nodes, start + _pods(lasting + others)):
        sentence = f"these nodes do not hold the pods of the start beside those of {names}: they would wait"
        yield service.finding(own, place, sentence)
    elif service.parsed.spec.upgrade_strategy.get("type", "NewCluster") != "None" and not _hold(
        nodes, start * 2 + _pods(lasting)
    ):
        sentence = "an upgrade starts a second cluster beside the first, and the described nodes do not hold both: it would wait"
        yield service.finding(own, "spec.upgradeStrategy.type", sentence, WARNING)
    elif not _hold(nodes, start + _pods([one for one in beside if one.document.kind != EVERYWHERE])):
        ending = [one for one in beside if one.document.kind in ENDING]
        sentence = (
            f"these nodes do not hold {_names(ending)} beside the pods of the start, which may wait for it: neither would go on"
        )
        yield service.finding(own, place, sentence, WARNING)


def _readable(templates: list[PodTemplate]) -> list[PodTemplate]:
    """Templates of services whose amounts are all quantities: the others have findings of their own."""
    stated = [
        (id(template.document), mapping(at(one.content, "resources", kind)))
        for template in templates
        for one in template.containers
        for kind in ("requests", "limits")
    ]
    without = {document for document, one in stated if len(amounts(one)) < len(one)}
    return [one for one in templates if id(one.document) not in without]


def _wanted(template: PodTemplate) -> dict[str, Decimal]:
    """The requests of a pod that the description of a node has amounts of."""
    return {name: value for name, value in template.requests.items() if name in ("cpu", "memory") or "/" in name}


def _pods(templates: list[PodTemplate]) -> list[dict[str, Decimal]]:
    return [wanted for one in templates for wanted in [_wanted(one)] * min(one.count.start, MOST_PODS)]


def _names(templates: list[PodTemplate]) -> str:
    return " and ".join(dict.fromkeys(f"{one.document.kind} {one.document.name}" for one in templates if one.count.start))


def _place(template: PodTemplate) -> str:
    """The resources of the container that requests the most CPU: the first where all request alike."""
    containers = [one for one in template.containers if one is not template.autoscaler and not one.init] or template.containers
    most = max(containers, key=lambda one: one.requests.get("cpu", Decimal(0)), default=None)
    return f"{most.place}.resources" if most else template.place


def _without(nodes: list[dict[str, Decimal]], shares: list[dict[str, Decimal]]) -> list[dict[str, Decimal]]:
    """The nodes without what DaemonSets take of each; one that does not fit there does not start, and takes nothing."""
    for wanted in shares:
        nodes = [
            {name: value - wanted.get(name, Decimal(0)) for name, value in node.items()} if _fits(wanted, node) else node
            for node in nodes
        ]
    return nodes


def _hold(nodes: list[dict[str, Decimal]], pods: list[dict[str, Decimal]]) -> bool:
    """First fit, the largest first."""
    free = [dict(node) for node in nodes]
    for wanted in sorted(pods, key=_size, reverse=True):
        place = next((node for node in free if _fits(wanted, node)), None)
        if place is None:
            return False
        place |= {name: place.get(name, Decimal(0)) - value for name, value in wanted.items()}
    return True


def _nodes(described: list[dict[str, Any]]) -> list[dict[str, Decimal]]:
    kinds = [
        (
            {
                "cpu": _cpus(node["cpus"]),
                "memory": parse_quantity(f"{node['memory_gib']}Gi"),
                **{name: Decimal(count) for name, count in node["gpus"].items()},
            },
            node["count"],
        )
        for node in described
    ]
    # Nodes without a GPU come first: pods that need none go there.
    return sorted((dict(kind) for kind, count in kinds for _ in range(count)), key=len)


def _cpus(value: object) -> Decimal:
    try:
        return Decimal(str(value))
    except ArithmeticError as error:
        raise ValueError(f"{value} is no number of CPUs, such as 3.9") from error


def _fits(wanted: dict[str, Decimal], node: dict[str, Decimal]) -> bool:
    return all(value <= node.get(name, 0) for name, value in wanted.items())


def _size(wanted: dict[str, Decimal]) -> tuple[int, Decimal]:
    return len(wanted), wanted.get("cpu", Decimal(0))
