"""Rules: every deployment on the pods that are meant for it, one replica in each slot, and nothing else there."""

import math
import re
from collections.abc import Iterator

from kuberay.doctor.manifest import Finding, Rule, Service, WorkerGroup
from kuberay.doctor.resource_requests import Ask, asks, deployments, home

SHARED_GPU = re.compile(r"nvidia\.com/(mig-.+|gpu\.shared)")


def a_deployment_is_pinned_twice(service: Service) -> Iterator[Finding]:
    rule = a_deployment_is_pinned_twice
    for ask in asks(service):
        lacking = [
            *([] if ask.pins else ["resources (the slot that the autoscaler counts)"]),
            *([] if ask.selector else ["label_selector (the image it needs)"]),
        ]
        if lacking:
            sentence = f"{ask.name} has no {' and no '.join(lacking)}, so Ray may put it on any pod with CPUs to spare"
            yield service.finding(rule, f"{ask.field}.ray_actor_options", sentence)
    for number, application in enumerate(service.config["applications"]):
        listed = {given["name"] for given in application.get("deployments") or []}
        for name in sorted(set(deployments(application)) - listed):
            field = f"spec.serveConfigV2: applications[{number}].deployments"
            yield service.finding(rule, field, f"{name} is not among them, so it is pinned to nothing")


def a_resource_is_offered_by_one_group(service: Service) -> Iterator[Finding]:
    for ask in asks(service):
        for name in ask.pins:
            offering = [group.group_name for group in service.groups if service.offers(group).get(name)]
            if len(offering) != 1:
                sentence = f"{ask.name} asks for the resource {name}, which {_who(offering)}"
                field = f"{ask.field}.ray_actor_options.resources"
                yield service.finding(a_resource_is_offered_by_one_group, field, sentence)


def a_label_is_offered_by_one_group(service: Service) -> Iterator[Finding]:
    for ask in asks(service):
        offering = [group.group_name for group in service.groups if ask.selector and _selects(ask, group)]
        if ask.selector and len(offering) != 1:
            wanted = ", ".join(f"{key}: {value}" for key, value in ask.selector.items())
            field = f"{ask.field}.ray_actor_options.label_selector"
            sentence = f"{ask.name} asks for the label {wanted}, which {_who(offering)}"
            yield service.finding(a_label_is_offered_by_one_group, field, sentence)


def _who(offering: list[str]) -> str:
    if not offering:
        return "no worker group offers: it would wait for ever, and Serve would not say so"
    return f"the groups {' and '.join(offering)} offer: which of them it gets is chance"


def _selects(ask: Ask, group: WorkerGroup) -> bool:
    return all(_matches(group.labels.get(key), wanted) for key, wanted in ask.selector.items())


def _matches(label: str | None, wanted: str) -> bool:
    """`v`, `!v`, `in(a,b)` and `!in(a,b)`, as Ray reads them."""
    positive = wanted.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", positive)
    values = [value.strip() for value in listed[1].split(",")] if listed else [positive]
    return (label in values) != wanted.startswith("!")


def both_pins_name_one_group(service: Service) -> Iterator[Finding]:
    for ask in asks(service):
        group = home(service, ask)
        selected = [other for other in service.groups if ask.selector and _selects(ask, other)]
        if group is not None and len(selected) == 1 and selected[0] is not group:
            sentence = (
                f"{ask.name} asks for a resource of the group {group.group_name} and for the label of the group "
                f"{selected[0].group_name}: no pod has both, so it would wait for ever"
            )
            yield service.finding(both_pins_name_one_group, f"{ask.field}.ray_actor_options", sentence)


def a_replica_fits_one_pod(service: Service) -> Iterator[Finding]:
    for ask in asks(service):
        group = home(service, ask)
        if group is None:
            continue
        offers = service.offers(group)
        for name, amount in ask.amounts.items():
            if name == "GPU" and _unstated(group):
                continue
            if amount > offers.get(name, 0):
                sentence = (
                    f"a replica of {ask.name} asks for {_figure(name, amount)}, and a pod of the group {group.group_name} has "
                    f"{_figure(name, offers.get(name, 0))}: Ray would start pods for it without end, or none"
                )
                yield service.finding(a_replica_fits_one_pod, f"{ask.field}.ray_actor_options", sentence)


def replicas_fit_max_replicas(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        here = [ask for ask in asks(service) if home(service, ask) is group]
        needed = max((_pods(name, here, service.offers(group)) for name in service.offers(group)), default=0)
        if needed > group.max_replicas:
            names = " and ".join(ask.name for ask in here)
            sentence = (
                f"the group {group.group_name} has {group.max_replicas} pods at most, and {names} at most, while an update goes "
                f"on, replicas for {needed}: the last of them would wait for ever"
            )
            yield service.finding(replicas_fit_max_replicas, service.field(group, "maxReplicas"), sentence)


def _pods(name: str, here: list[Ask], offers: dict[str, int]) -> int:
    """Pods that the most replicas need of one resource."""
    one_each = all(ask.amounts.get(name, 0) <= offers[name] for ask in here)
    asked = sum((ask.max_replicas + ask.surge) * ask.amounts.get(name, 0) for ask in here)
    return math.ceil(round(asked / offers[name], 6)) if offers[name] and one_each else 0


def a_pods_gpu_is_asked_for(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        here = [ask for ask in asks(service) if home(service, ask) is group]
        idle = [ask for ask in here if not ask.amounts["GPU"]]
        if service.offers(group).get("GPU") and idle:
            names = " and ".join(ask.name for ask in idle)
            sentence = (
                f"{names} asks for no GPU (num_gpus), though the pods of {group.group_name} have one: Ray would not count it"
            )
            yield service.finding(a_pods_gpu_is_asked_for, f"{idle[0].field}.ray_actor_options", sentence)


def a_pods_cpus_are_asked_for(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        here = [ask for ask in asks(service) if home(service, ask) is group]
        asked, offered = sum(ask.amounts["CPU"] for ask in here), service.offers(group)["CPU"]
        if here and asked < offered:
            names = " and ".join(ask.name for ask in here)
            sentence = f"{names} asks for {asked:g} of the {offered} CPUs of its pod (num_cpus), and runs on so many threads only"
            field = f"{here[0].field}.ray_actor_options"
            yield service.finding(a_pods_cpus_are_asked_for, field, sentence, warning=True)


def a_gpu_that_is_shared_is_stated(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        if _unstated(group):
            sentence = (
                f"the group {group.group_name} has a part of a GPU, which Ray's autoscaler does not recognise by its name: state "
                'GPU: "1" among the resources, or the group never scales'
            )
            yield service.finding(a_gpu_that_is_shared_is_stated, service.field(group, "resources"), sentence)


def _unstated(group: WorkerGroup) -> bool:
    shared = any(SHARED_GPU.fullmatch(name) for name in group.ray.resources.limits)
    return shared and "GPU" not in group.resources and "num-gpus" not in group.ray_start_params


def a_custom_name_does_not_end_in_gpu(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        for name in group.resources:
            if name != "GPU" and name.lower().endswith("gpu"):
                sentence = f"KubeRay takes {name} for a number of GPUs, and Ray's autoscaler does not: call it something else"
                yield service.finding(a_custom_name_does_not_end_in_gpu, service.field(group, "resources"), sentence)


def the_head_takes_no_work(service: Service) -> Iterator[Finding]:
    head = service.cluster.head_group_spec
    offers = service.node_types["headgroup"].resources
    work = {name: amount for name, amount in offers.items() if amount and name != "memory"}
    if work:
        listed = ", ".join(f"{name}: {amount}" for name, amount in work.items())
        sentence = f'the head offers {listed}, so replicas may land there and end with it: state CPU: "0"'
        yield service.finding(the_head_takes_no_work, service.field(head, "resources"), sentence)
    if not service.parsed.spec.exclude_head_pod_from_serve_svc:
        sentence = "the head would get requests from outside: set it to true"
        yield service.finding(the_head_takes_no_work, "spec.excludeHeadPodFromServeSvc", sentence)


def _figure(name: str, amount: float) -> str:
    return f"{name} {amount:g}"


RULES: tuple[Rule, ...] = (
    a_deployment_is_pinned_twice,
    a_resource_is_offered_by_one_group,
    a_label_is_offered_by_one_group,
    both_pins_name_one_group,
    a_replica_fits_one_pod,
    replicas_fit_max_replicas,
    a_pods_gpu_is_asked_for,
    a_pods_cpus_are_asked_for,
    a_gpu_that_is_shared_is_stated,
    a_custom_name_does_not_end_in_gpu,
    the_head_takes_no_work,
)
