"""Rules: workloads and their pods: restarts, selectors, and pods that a replica is made of."""

from collections.abc import Iterator
from typing import Any

from deployments.nearest import question
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import CLUSTER, OF_KUBERAY, PodTemplate, of_document, pod_templates
from kuberay.doctor.selectors import selects
from kuberay.doctor.untyped import amounts, at, mapping, mappings, whole
from kuberay.manifest.objects import GROUP
from kuberay.ray_autoscaler import HEAD

RESTARTS = {
    **dict.fromkeys(("Job", "CronJob"), ("Never", "OnFailure")),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"), ("Always",)),
}
SELECTING = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
OF_CONTROLLERS = ("ray.io/", "batch.kubernetes.io/", "apps.kubernetes.io/", "statefulset.kubernetes.io/")
"""Beginnings of labels some of which controllers add to their pods."""
ADDED = {"pod-template-hash", "controller-revision-hash", "controller-uid", "job-name"}
TPU = "google.com/tpu"


@rule(
    "SG450",
    "pods restart as their kind needs it",
    "Set `restartPolicy` to Never or OnFailure for a Job, and leave it out for pods that always run.",
)
def a_pod_restarts_as_its_kind_needs(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        wanted = RESTARTS.get(template.document.kind)
        stated = template.spec.get("restartPolicy", "Always")
        if wanted and stated not in wanted:
            sentence = f"it is {stated}, and a {template.document.kind} takes {' or '.join(wanted)}: it is refused"
            place = template.at("restartPolicy")
            yield template.document.finding(a_pod_restarts_as_its_kind_needs, place, sentence)


@rule(
    "SG451",
    "a selector matches the labels of its own template",
    "Write the same labels in `selector.matchLabels` and in the template's metadata.",
)
def a_selector_matches_its_template(service: Service) -> Iterator[Finding]:
    for document in service.beside:
        selector = mapping(document.spec.get("selector"))
        if document.kind not in SELECTING:
            continue
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            sentence = f"a {document.kind} without a selector is refused"
            yield document.finding(a_selector_matches_its_template, "spec.selector", sentence)
            continue
        for template in of_document(document):
            for name, value, place in _missed(selector, template.labels):
                sentence = f"it selects {name}{value}, and its template's labels are others: the {document.kind} is refused"
                yield document.finding(a_selector_matches_its_template, f"spec.selector.{place}", sentence)


def _missed(selector: dict[str, Any], labels: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and place of each part of a selector that the labels do not fulfil."""
    for name, value in mapping(selector.get("matchLabels")).items():
        if labels.get(name) != value:
            yield str(name), f": {value}", f"matchLabels.{name}"
    for index, one in mappings(selector.get("matchExpressions")):
        name, values = str(one.get("key")), one.get("values")
        listed = values if isinstance(values, list) else []
        fulfilled = {
            "In": labels.get(name) in listed,
            "NotIn": labels.get(name) not in listed,
            "Exists": name in labels,
            "DoesNotExist": name not in labels,
        }.get(str(one.get("operator")), True)
        if not fulfilled:
            yield name, f" {one.get('operator')} {' '.join(map(str, listed))}".rstrip(), f"matchExpressions[{index}]"


@rule(
    "SG452",
    "what spreads pods selects pods of the folder",
    "Use labels that the pods have.",
)
def a_spread_selects_pods(service: Service) -> Iterator[Finding]:
    groups = {group.group_name for group in service.groups}
    templates = list(pod_templates(service))
    for template in templates:
        for place, selector, what in _spreads(template):
            stated = mapping(selector.get("matchLabels"))
            if stated.get(GROUP, next(iter(groups), "")) not in groups | {HEAD}:
                continue  # SG405 says so
            near = [one for one in templates if one.namespace == template.namespace]
            if not (stated or selector.get("matchExpressions")) or any(selects(selector, one.labels, _is_added) for one in near):
                continue
            values = {f"{name}: {value}" for one in near for name, value in one.labels.items()}
            wrong = next((f"{name}: {value}" for name, value in stated.items() if not _is_had(name, value, near)), "")
            shown = f" ({wrong})" if wrong else ""
            sentence = f"no pod of the folder has these labels{shown}, {what}{question(wrong, values)}"
            yield template.document.finding(a_spread_selects_pods, place, sentence, WARNING)


def _is_had(name: str, value: Any, near: list[PodTemplate]) -> bool:
    return any(selects({"matchLabels": {name: value}}, one.labels, _is_added) for one in near)


def _is_added(name: str) -> bool:
    """Return whether a controller may add the label."""
    if name.startswith("app.kubernetes.io/"):
        return name.rpartition("/")[2] in ("name", "created-by")
    return name in ADDED or name.startswith(OF_CONTROLLERS)


def _spreads(template: PodTemplate) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield place, selector and what happens where it selects nothing."""
    for index, one in mappings(template.spec.get("topologySpreadConstraints")):
        place = template.at(f"topologySpreadConstraints[{index}].labelSelector")
        yield place, mapping(one.get("labelSelector")), "so nothing is spread, and one node may hold every pod"
    for name in ("podAffinity", "podAntiAffinity"):
        affinity, needs = mapping(at(template.spec, "affinity", name)), name == "podAffinity"
        happens = "so the pod waits forever" if needs else "so nothing is kept apart, and one node may hold every pod"
        terms = [
            (f"affinity.{name}.requiredDuringSchedulingIgnoredDuringExecution[{index}]", one)
            for index, one in mappings(affinity.get("requiredDuringSchedulingIgnoredDuringExecution"))
        ]
        terms += [
            (f"affinity.{name}.preferredDuringSchedulingIgnoredDuringExecution[{index}].podAffinityTerm", one)
            for index, one in (
                (index, mapping(one.get("podAffinityTerm")))
                for index, one in mappings(affinity.get("preferredDuringSchedulingIgnoredDuringExecution"))
            )
        ]
        for place, one in terms:
            if "namespaces" not in one and "namespaceSelector" not in one:
                yield template.at(f"{place}.labelSelector"), mapping(one.get("labelSelector")), happens


@rule(
    "SG453",
    "a replica of a group is one pod",
    "Leave `numOfHosts` out: it is for TPUs and models that span hosts.",
)
def a_replica_of_a_group_is_one_pod(service: Service) -> Iterator[Finding]:
    for document in (service.document, *service.beside):
        cluster = at(document.content, *OF_KUBERAY[document.kind]) if document.kind in OF_KUBERAY else None
        place = CLUSTER if document.kind == "RayService" else "spec"
        for index, group in mappings(at(cluster, "workerGroupSpecs")):
            hosts = whole(group.get("numOfHosts"), 1)
            containers = mappings(at(group, "template", "spec", "containers"))
            stated = {
                name for _, one in containers for kind in ("requests", "limits") for name in amounts(at(one, "resources", kind))
            }
            if hosts != 1 and TPU not in stated:
                sentence = (
                    f"each replica of {group.get('groupName')} is {hosts} pods, which start and end together: minReplicas and "
                    f"maxReplicas count {hosts} times as many pods, and each Serve replica uses one of them"
                    if hosts > 1
                    else f"it is {hosts}, so the group {group.get('groupName')} has no pods"
                )
                field = f"{place}.workerGroupSpecs[{index}].numOfHosts"
                yield document.finding(a_replica_of_a_group_is_one_pod, field, sentence, WARNING)
