"""Rules: the pods have the environment that Ray, Serve and this project's app rely on, each the same."""

from collections import Counter
from collections.abc import Iterator

from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.manifest import Group, Service
from kuberay.doctor.rules.times import ENV
from kuberay.manifest.rayservice import DRAIN, RETRIES, SHUTDOWN_TIER, ray_env

JUDGED = (SHUTDOWN_TIER, DRAIN)
"""Variables that rules of their own compare with other times."""
OF_KUBERAY = ("RAY_ADDRESS", "RAY_IP", "RAY_PORT", "FQ_RAY_IP", "RAY_CLUSTER_NAME", "RAY_NODE_TYPE_NAME", "RAY_CLOUD_INSTANCE_ID")
"""Variables that KubeRay sets in each pod."""
NUMBERS = ("_S", "_MS", "_PORT", "_BYTES", "_RETRIES", "_COUNT", "_FACTOR", "_SECONDS", "_MAX_FAIL", "_LEN", "_CONCURRENCY")
"""Endings of the names whose values Ray reads as numbers."""


@rule(
    "SG250",
    "every pod has the environment of graphs/ray.env",
    "Render again, or copy the variable into each group.",
    house=True,
)
def every_pod_has_the_same_environment(service: Service) -> Iterator[Finding]:
    """The proxies and the controller read it where they run: each pod has a proxy, and the head the controller."""
    own, needed = every_pod_has_the_same_environment, {**ray_env(), **RETRIES}
    names = [*needed, *sorted({one.name for pod in service.pods for one in pod.ray.env if one.name.startswith("RAY_SERVE_")})]
    for name in dict.fromkeys(one for one in names if one not in JUDGED):
        having = [pod for pod in service.pods if name in {one.name for one in pod.ray.env}]
        lacking = [pod for pod in service.pods if pod not in having]
        values = Counter(pod.ray.value(name) for pod in having)
        for pod in lacking:
            what = "the app relies on it" if name in needed else "the other pods have it"
            sentence = f"{_title(service, pod)} has no {name}, and {what}: requests through it would be served in another way"
            yield service.finding(own, service.field(pod, ENV), sentence, WARNING)
        if len(values) > 1:
            usual = needed.get(name) or values.most_common(1)[0][0]
            for pod in (one for one in having if one.ray.value(name) != usual):
                sentence = f"{name} is {pod.ray.value(name)} in {_title(service, pod)}, and {usual} elsewhere: take one value"
                yield service.finding(own, service.field(pod, ENV), sentence, WARNING)
        elif name in ray_env() and values and next(iter(values)) != needed[name] and name.endswith("_IMPORT_PATH"):
            sentence = f"{name} is {next(iter(values))}, and the app relies on {needed[name]}: what it does there is lost"
            yield service.finding(own, service.field(having[0], ENV), sentence, WARNING)


def _title(service: Service, pod: Group) -> str:
    return next((f"the group {group.group_name}" for group in service.groups if group is pod), "the head")


@rule(
    "SG251",
    "KubeRay alone sets the variables by which pods find their cluster",
    "Leave the variable out.",
)
def kuberay_sets_its_own_variables(service: Service) -> Iterator[Finding]:
    for pod in service.pods:
        for name in sorted({one.name for one in pod.ray.env} & set(OF_KUBERAY)):
            sentence = (
                f"KubeRay sets {name} for each cluster, and keeps one that is stated: {_title(service, pod)} would look for its head "
                f"at {pod.ray.value(name) or 'another address'}, in an upgrade too, when there are two clusters"
            )
            yield service.finding(kuberay_sets_its_own_variables, service.field(pod, ENV), sentence, WARNING)


@rule(
    "SG252",
    "a variable that Ray reads as a number is one",
    "Write seconds as a number without unit: 135.",
)
def a_number_in_the_environment_is_one(service: Service) -> Iterator[Finding]:
    """Serve reads its variables when it is imported, and fails with any other text: no replica, proxy or controller starts."""
    own = a_number_in_the_environment_is_one
    for pod in service.pods:
        for variable in pod.ray.env:
            name, text = variable.name, variable.value
            if text is None or not name.startswith("RAY_") or not name.endswith(NUMBERS) or "BUCKETS" in name:
                continue
            number, of_serve = as_number(text), name.startswith("RAY_SERVE_")
            if number is None:
                what = "Serve ends at its start, and nobody is served" if of_serve else "it takes its own default"
                sentence = f"{name} is {text or 'empty'}, and Ray reads a number, without unit: {what}"
            elif of_serve and (number < 0 or (name == SHUTDOWN_TIER and number == 0)):
                sentence = (
                    f"{name} is {text}, and Serve takes positive numbers alone: it would end at its start, and nobody is served"
                )
            else:
                continue
            yield service.finding(own, service.field(pod, ENV), sentence, ERROR if of_serve else WARNING)


def as_number(text: str | None) -> float | None:
    """Return the number of a text, as Python's float has it; None for another text."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
