"""Rules: the budgets keep pods while nodes are emptied, and let them be emptied."""

from collections.abc import Iterator
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.folder import documents, meets
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.selectors import selects, shown
from kuberay.doctor.untyped import at

BOUNDS = ("minAvailable", "maxUnavailable")


@rule(
    "SG760",
    "a disruption budget selects pods that there are",
    "Use the labels of the pods: `kubectl get pods --show-labels` lists them, KubeRay's own (ray.io/group) too.",
)
def a_budget_selects_pods(service: Service) -> Iterator[Finding]:
    everything = pod_templates(service)
    for document in documents(service, "PodDisruptionBudget"):
        selector = document.spec.get("selector")
        if not isinstance(selector, dict) or not any(selects(selector, one.labels) for one in everything):
            what = shown(selector) if isinstance(selector, dict) else "nothing"
            sentence = f"it selects {what}, which no pod of the folder has: nodes may be emptied of all pods at once"
            yield document.finding(a_budget_selects_pods, "spec.selector", sentence, WARNING)


@rule(
    "SG761",
    "a disruption budget has one bound",
    "Leave one of minAvailable and maxUnavailable out.",
)
def a_budget_has_one_bound(service: Service) -> Iterator[Finding]:
    for document in documents(service, "PodDisruptionBudget"):
        stated = [name for name in BOUNDS if name in document.spec]
        if len(stated) == 2:
            sentence = "minAvailable and maxUnavailable exclude each other, and the API server refuses the budget: leave one out"
            yield document.finding(a_budget_has_one_bound, "spec.maxUnavailable", sentence)


@rule(
    "SG762",
    "a disruption budget lets a pod go, so that nodes can be emptied",
    "Keep one pod fewer than the least number of the group, or leave the budget of a single pod out.",
)
def a_budget_lets_a_pod_go(service: Service) -> Iterator[Finding]:
    for document, chosen in _budgets(service):
        kept, away = document.spec.get("minAvailable"), document.spec.get("maxUnavailable")
        least = sum(one.count.least for one in chosen)
        names = " and ".join(one.name for one in chosen)
        if away in (0, "0", "0%"):
            place, reason = "maxUnavailable", f"with {away} unavailable at most no pod of {names} may ever be evicted"
        elif kept == "100%":
            place, reason = "minAvailable", f"with 100% available no pod of {names} may ever be evicted"
        elif isinstance(kept, int) and kept and kept >= least:
            place, reason = (
                "minAvailable",
                f"{names} has {least} pods at the least, and {kept} have to stay: none may be evicted then",
            )
        else:
            continue
        sentence = f"{reason}, so `kubectl drain` and an upgrade of the nodes wait forever: let one pod go"
        yield document.finding(a_budget_lets_a_pod_go, f"spec.{place}", sentence, WARNING)


@rule(
    "SG763",
    "a disruption budget of Ray's pods states a number of pods that stay",
    "State minAvailable as a whole number: Kubernetes computes the rest only for owners with a scale subresource.",
)
def a_budget_of_rays_pods_is_a_number(service: Service) -> Iterator[Finding]:
    for document, chosen in _budgets(service):
        if not any(one.node_type for one in chosen):
            continue
        for name in BOUNDS:
            value = document.spec.get(name)
            if value is not None and (name == "maxUnavailable" or not isinstance(value, int)) and value not in (0, "0%", "100%"):
                sentence = (
                    f"Kubernetes cannot compute {name}: {value} of pods whose owner is a RayCluster, and then lets no pod be evicted: "
                    "state minAvailable as a number of pods"
                )
                yield document.finding(a_budget_of_rays_pods_is_a_number, f"spec.{name}", sentence, WARNING)


@rule(
    "SG764",
    "a pod has one disruption budget",
    "Make the selectors exclude each other: Kubernetes evicts no pod that two budgets select.",
)
def a_pod_has_one_budget(service: Service) -> Iterator[Finding]:
    seen = dict[tuple[str, int], str]()
    for document, chosen in _budgets(service):
        for one in chosen:
            other = seen.setdefault((one.place, id(one.document)), document.name)
            if other != document.name:
                sentence = (
                    f"it and {other} select {one.name}: Kubernetes evicts no pod that has two budgets, so no node can be emptied"
                )
                yield document.finding(a_pod_has_one_budget, "spec.selector", sentence, WARNING)
                break


def _budgets(service: Service) -> Iterator[tuple[Document, list[PodTemplate]]]:
    """Each budget that selects pods of the folder, with these. An empty selector selects all of the namespace."""
    everything = pod_templates(service)
    for document in documents(service, "PodDisruptionBudget"):
        selector: Any = at(document.content, "spec", "selector")
        chosen = [one for one in everything if isinstance(selector, dict) and selects(selector, one.labels)]
        chosen = [
            one for one in chosen if meets(document.namespace, one.namespace) and one.document.kind not in ("Job", "CronJob")
        ]
        if chosen:
            yield document, chosen
