"""Rules: every deployment runs on the pods of its own worker group, one replica in each slot, and nothing else does."""

import math
import re
from collections.abc import Iterator

from kuberay import app
from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.manifest import Service, WorkerGroup
from kuberay.doctor.resource_requests import ResourceRequest, deployments, resource_requests, worker_group
from kuberay.ray_autoscaler import HEAD
from kuberay.worker_groups import INGRESS

SHARED_GPU = re.compile(r"nvidia\.com/(mig-.+|gpu\.shared)")


@rule(
    "SG301",
    "each deployment names its group by a custom resource and by a label",
    "State `resources` and `label_selector` of its `ray_actor_options`.",
    house=True,
)
def a_deployment_is_pinned_twice(service: Service) -> Iterator[Finding]:
    own = a_deployment_is_pinned_twice
    for request in resource_requests(service):
        lacking = [
            *([] if request.pins else ["resources (the slot that the autoscaler counts)"]),
            *([] if request.selector else ["label_selector (the image it needs)"]),
        ]
        if lacking:
            sentence = f"{request.name} has no {' and no '.join(lacking)}, so Ray may put it on any pod with CPUs to spare"
            yield service.finding(own, f"{request.field}.ray_actor_options", sentence)
    for number, application in enumerate(service.config["applications"]):
        listed = {stated["name"] for stated in application.get("deployments") or []}
        for name in sorted(set(deployments(application)) - listed):
            field = f"spec.serveConfigV2: applications[{number}].deployments"
            yield service.finding(own, field, f"{name} is not among them, so it is pinned to nothing")


@rule(
    "SG302",
    "one group offers the resource that a deployment asks for",
    "Use the group's own name of the resource.",
)
def a_resource_is_offered_by_one_group(service: Service) -> Iterator[Finding]:
    head = service.node_types[HEAD].resources
    for request in resource_requests(service):
        for name in request.pins:
            offering = [group.group_name for group in service.groups if service.offers(group).get(name)]
            offering += ["head"] if head.get(name) else []
            if len(offering) != 1:
                sentence = f"{request.name} requests the resource {name}, which {_offered(offering)}"
                field = f"{request.field}.ray_actor_options.resources"
                severity = service.of_house(ERROR) if offering else ERROR
                yield service.finding(a_resource_is_offered_by_one_group, field, sentence, severity)


@rule(
    "SG303",
    "one group has the label that a deployment selects",
    "Use the group's own label.",
)
def a_label_is_offered_by_one_group(service: Service) -> Iterator[Finding]:
    for request in resource_requests(service):
        offering = [group.group_name for group in service.groups if request.selector and _selects(request, group)]
        if request.selector and len(offering) != 1:
            wanted = ", ".join(f"{key}: {value}" for key, value in request.selector.items())
            field = f"{request.field}.ray_actor_options.label_selector"
            sentence = f"{request.name} requests the label {wanted}, which {_offered(offering)}"
            severity = service.of_house(ERROR) if offering else ERROR
            yield service.finding(a_label_is_offered_by_one_group, field, sentence, severity)


def _offered(offering: list[str]) -> str:
    if not offering:
        return "no worker group offers: it would wait forever, and Serve would not report it"
    return f"the groups {' and '.join(offering)} offer: Ray may take either"


def _selects(request: ResourceRequest, group: WorkerGroup) -> bool:
    return all(_matches(group.labels.get(key), wanted) for key, wanted in request.selector.items())


def _matches(label: str | None, wanted: str) -> bool:
    """`v`, `!v`, `in(a,b)` and `!in(a,b)`, as Ray reads them."""
    positive = wanted.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", positive)
    values = [value.strip() for value in listed[1].split(",")] if listed else [positive]
    return (label in values) != wanted.startswith("!")


@rule(
    "SG304",
    "resource and label of a deployment name one group",
    "Make both name the group with its image.",
)
def both_pins_name_one_group(service: Service) -> Iterator[Finding]:
    for request in resource_requests(service):
        group = worker_group(service, request)
        selected = [other for other in service.groups if request.selector and _selects(request, other)]
        if group is not None and len(selected) == 1 and selected[0] is not group:
            sentence = (
                f"{request.name} requests a resource of the group {group.group_name} and the label of the group "
                f"{selected[0].group_name}: no pod has both, so it would wait forever"
            )
            yield service.finding(both_pins_name_one_group, f"{request.field}.ray_actor_options", sentence)


@rule(
    "SG305",
    "a replica fits a pod of its group",
    "Ask for less, or make the pod larger: a replica waits forever otherwise.",
)
def a_replica_fits_one_pod(service: Service) -> Iterator[Finding]:
    for request in resource_requests(service):
        group = worker_group(service, request)
        if group is None:
            continue
        offers = service.offers(group)
        for name, amount in request.amounts.items():
            if name == "GPU" and _unstated(group):
                continue
            if amount > offers.get(name, 0):
                sentence = (
                    f"a replica of {request.name} requests {_amount(name, amount)}, and a pod of the group {group.group_name} has "
                    f"{_amount(name, offers.get(name, 0))}: Ray would start pods for it endlessly, or none"
                )
                yield service.finding(a_replica_fits_one_pod, f"{request.field}.ray_actor_options", sentence)


@rule(
    "SG306",
    "the most replicas fit the most pods",
    "Raise `maxReplicas`, or lower `max_replicas`.",
)
def replicas_fit_max_replicas(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        here = [request for request in resource_requests(service) if worker_group(service, request) is group]
        needed = max((_pods(name, here, service.offers(group)) for name in service.offers(group)), default=0)
        if needed > group.max_replicas:
            names = " and ".join(request.name for request in here)
            sentence = (
                f"the group {group.group_name} has {group.max_replicas} pods at most, and {names} at most, during an "
                f"update, replicas for {needed}: the last of them would wait forever"
            )
            yield service.finding(replicas_fit_max_replicas, service.field(group, "maxReplicas"), sentence)


def _pods(name: str, here: list[ResourceRequest], offers: dict[str, int]) -> int:
    """Pods that the most replicas need of one resource."""
    one_each = all(request.amounts.get(name, 0) <= offers[name] for request in here)
    requested = sum((request.max_replicas + request.surge) * request.amounts.get(name, 0) for request in here)
    return math.ceil(round(requested / offers[name], 6)) if offers[name] and one_each else 0


@rule(
    "SG307",
    "a deployment on a pod with a GPU asks Ray for it",
    "Set `num_gpus`.",
)
def a_pods_gpu_is_requested(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        here = [request for request in resource_requests(service) if worker_group(service, request) is group]
        idle = [request for request in here if not request.amounts["GPU"]]
        if service.offers(group).get("GPU") and idle:
            names = " and ".join(request.name for request in idle)
            sentence = (
                f"{names} requests no GPU (num_gpus), though the pods of {group.group_name} have one: Ray would not count it"
            )
            yield service.finding(a_pods_gpu_is_requested, f"{idle[0].field}.ray_actor_options", sentence)


@rule(
    "SG308",
    "the deployments of a pod ask for its CPUs",
    "Set `num_cpus`.",
)
def a_pods_cpus_are_requested(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        here = [request for request in resource_requests(service) if worker_group(service, request) is group]
        requested, offered = sum(request.amounts["CPU"] for request in here), service.offers(group)["CPU"]
        if here and requested < offered:
            names = " and ".join(request.name for request in here)
            sentence = (
                f"{names} requests {requested:g} of the {offered} CPUs of its pod (num_cpus), and runs on so many threads only"
            )
            field = f"{here[0].field}.ray_actor_options"
            yield service.finding(a_pods_cpus_are_requested, field, sentence, WARNING)


@rule(
    "SG309",
    "the ingress asks for a CPU for each process that decodes",
    "Raise `num_cpus`, or lower `audio.decode_workers`.",
)
def each_decoder_has_a_cpu(service: Service) -> Iterator[Finding]:
    for application in service.config["applications"]:
        try:
            workers = app.settings(application).audio.decode_workers
        except Exception:  # rules of their own report it; or the app is of another kind
            continue
        for request in resource_requests(service):
            if request.name == INGRESS.name and request.amounts["CPU"] < workers:
                sentence = (
                    f"the ingress decodes recordings in {workers} processes (setting audio.decode_workers), and requests "
                    f"{request.amounts['CPU']:g} CPUs (num_cpus): they would take those of others"
                )
                yield service.finding(each_decoder_has_a_cpu, f"{request.field}.ray_actor_options", sentence, WARNING)


@rule(
    "SG310",
    "a group with a part of a GPU says so to Ray",
    'State `GPU: "1"` in the group\'s `resources`.',
)
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


@rule(
    "SG311",
    "no custom resource has a name that KubeRay takes for GPUs",
    "Rename it.",
)
def a_custom_name_does_not_end_in_gpu(service: Service) -> Iterator[Finding]:
    for group in service.groups:
        for name in group.resources:
            if name != "GPU" and name.lower().endswith("gpu"):
                sentence = f"KubeRay takes {name} for a number of GPUs, and Ray's autoscaler does not: rename it"
                yield service.finding(a_custom_name_does_not_end_in_gpu, service.field(group, "resources"), sentence)


@rule(
    "SG312",
    "the head has no replicas, and gets no requests",
    'State `resources: {CPU: "0"}` for the head and `excludeHeadPodFromServeSvc: true`.',
    house=True,
)
def the_head_takes_no_work(service: Service) -> Iterator[Finding]:
    head = service.cluster.head_group_spec
    offers = service.node_types["headgroup"].resources
    work = {name: amount for name, amount in offers.items() if amount and name != "memory"}
    if work:
        listed = ", ".join(f"{name}: {amount}" for name, amount in work.items())
        sentence = f'the head offers {listed}, so replicas may land there and end with the head: state CPU: "0"'
        yield service.finding(the_head_takes_no_work, service.field(head, "resources"), sentence)
    if not service.parsed.spec.exclude_head_pod_from_serve_svc:
        sentence = "the head would get requests from outside: set it to true"
        yield service.finding(the_head_takes_no_work, "spec.excludeHeadPodFromServeSvc", sentence)


def _amount(name: str, amount: float) -> str:
    return f"{name} {amount:g}"
