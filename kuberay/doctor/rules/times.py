"""Rules: every wait for a request is longer than the request may take."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kuberay import app
from kuberay.doctor.finding import ERROR, Finding, rule
from kuberay.doctor.manifest import Group, Service
from kuberay.doctor.resource_requests import resource_requests, worker_group
from kuberay.manifest.rayservice import DRAIN, SHUTDOWN_TIER

ENV = "template.spec.containers[0].env"
PRE_STOP = "template.spec.containers[0].lifecycle.preStop"
RAY_DRAIN_S, RAY_TIER_S = 30.0, 30.0
"""Ray's own limits of a drain, and of a shutdown's stage, where the pod states none."""
SETTLE_S, DRAIN_S = 5.0, 435.0
"""Defaults of `sonograph drain`."""


@rule(
    "SG601",
    "every wait for a request is longer than the request may take",
    "Lengthen the wait, or shorten `http.deadline_s`.",
)
def each_wait_outlasts_the_next(service: Service) -> Iterator[Finding]:
    own = each_wait_outlasts_the_next
    deadline_s = longest_deadline_s(service)
    timeout_s = (service.config.get("http_options") or {}).get("request_timeout_s")
    if timeout_s is not None and timeout_s <= deadline_s:
        sentence = (
            f"{timeout_s:g} s is not above the deadline (setting http.deadline_s, {deadline_s:g} s): "
            "Serve would end a request that still has time"
        )
        yield service.finding(own, "spec.serveConfigV2: http_options.request_timeout_s", sentence)
    longest_s = deadline_s
    for request in resource_requests(service):
        longest_s = max(longest_s, request.graceful_shutdown_s)
        if request.graceful_shutdown_s <= deadline_s:
            sentence = (
                f"{request.name} has {request.graceful_shutdown_s:g} s to finish, which is not above the deadline "
                f"(setting http.deadline_s, {deadline_s:g} s): an update would cut requests"
            )
            yield service.finding(own, f"{request.field}.graceful_shutdown_timeout_s", sentence)
    tier_s = _number(service.cluster.head_group_spec, SHUTDOWN_TIER, RAY_TIER_S)
    if tier_s < longest_s:
        sentence = (
            f"{SHUTDOWN_TIER} is {tier_s:g}, below graceful_shutdown_timeout_s ({longest_s:g} s): "
            "a shutdown would end replicas sooner"
        )
        field = service.field(service.cluster.head_group_spec, ENV)
        yield service.finding(own, field, sentence, service.of_house(ERROR))
    for group in service.groups:
        hook = _hook(group)
        drain_s, field = (hook.drain_s, PRE_STOP) if hook.drains else (_rays_drain_s(group), ENV)
        if hook.settle_s and drain_s <= longest_s:  # another rule finds a pod without a hook
            sentence = (
                f"a deleted pod drains for {drain_s:g} s at most, not above graceful_shutdown_timeout_s ({longest_s:g} s): "
                "Serve would stop its replicas before others have started in their place"
            )
            yield service.finding(own, service.field(group, field), sentence)
    for pod in (service.cluster.head_group_spec, *service.groups):
        hook = _hook(pod)
        ends_s, waits_s = pod.template.spec.termination_grace_period_seconds, hook.settle_s + hook.drain_s + _rays_drain_s(pod)
        if ends_s <= waits_s:
            sentence = f"Kubernetes kills the pod after {ends_s} s, not above the waits before it: preStop hook and {DRAIN}, {waits_s:g} s"
            field = service.field(pod, "template.spec.terminationGracePeriodSeconds")
            yield service.finding(own, field, sentence, service.of_house(ERROR))
    delay_s = service.parsed.spec.ray_cluster_deletion_delay_seconds
    if delay_s <= longest_s:
        sentence = f"the old cluster ends {delay_s} s after an upgrade, while its replicas may need {longest_s:g} s to finish"
        yield service.finding(own, "spec.rayClusterDeletionDelaySeconds", sentence)


@rule(
    "SG602",
    "a pod with replicas drains before it ends",
    "Keep the preStop hook `sonograph drain`.",
)
def a_pod_settles_before_it_drains(service: Service) -> Iterator[Finding]:
    """Every pod with a replica has one of Serve's proxies, to which the Service sends requests until it is removed there."""
    for group in service.groups:
        if not _hook(group).settle_s and any(worker_group(service, request) is group for request in resource_requests(service)):
            sentence = f"a deleted pod of {group.group_name} ends while requests still come: its preStop hook should be `sonograph drain`"
            yield service.finding(
                a_pod_settles_before_it_drains, service.field(group, PRE_STOP), sentence, service.of_house(ERROR)
            )


def longest_deadline_s(service: Service) -> float:
    return max((_deadline_s(application) for application in service.config["applications"]), default=0.0)


def _deadline_s(application: dict[str, object]) -> float:
    """http.deadline_s as the app takes it, its default too; 0 for an app that has none."""
    try:
        return float(app.settings(application).http.deadline_s)
    except Exception:  # rules of their own report it; or the app is of another kind
        return 0.0


def _number(group: Group, name: str, default: float) -> float:
    """Return a variable's number; the default without one, and for another text, which a rule of its own finds."""
    text = group.ray.value(name)
    try:
        return default if text is None else float(text)
    except ValueError:
        return default


def _rays_drain_s(group: Group) -> float:
    """Seconds for which Ray drains the node after the hook."""
    return _number(group, DRAIN, RAY_DRAIN_S)


@dataclass(frozen=True)
class _Hook:
    """A preStop hook. `drains`: whether it is `sonograph drain`."""

    settle_s: float = 0.0
    drain_s: float = 0.0
    drains: bool = False


def _hook(group: Group) -> _Hook:
    """Return the waits of the preStop hook: `sonograph drain`, `sleep` or Kubernetes' own action; none with another."""
    hook: object = group.ray.lifecycle.get("preStop")
    words = drain_words(group)
    if words is not None:
        return _Hook(_option(words, "--settle-s", SETTLE_S), _option(words, "--most-s", DRAIN_S), drains=True)
    match hook:
        case {"sleep": {"seconds": int(seconds)}}:
            return _Hook(seconds)
        case {"exec": {"command": ["sleep", str(seconds)]}} if seconds.isdecimal():
            return _Hook(int(seconds))
    return _Hook()


def drain_words(group: Group) -> list[str] | None:
    """Return the words of the hook from `drain` on; None for another hook."""
    found = _command(group)
    line = " ".join(found) if found else ""
    begun = re.search(r"(?:^|[\s;&|/])sonograph\s+drain(?=\s|$)", line)
    return None if begun is None else re.split(r"[;&|]", line[begun.end() :])[0].split()


def _command(group: Group) -> list[str]:
    hook: object = group.ray.lifecycle.get("preStop")
    match hook:
        case {"exec": {"command": [*words]}}:
            return [str(word) for word in words]
    return []


def is_in_a_shell(group: Group) -> bool:
    """Return whether the hook's command is a shell's, which puts variables in."""
    words = _command(group)
    return (
        len(words) > 1 and words[0].rpartition("/")[2] in ("sh", "bash", "dash", "env") and any("c" in one for one in words[1:2])
    )


def _option(words: list[str], name: str, default: float) -> float:
    """Return an option's number; the default without one, and for another text."""
    text = option(words, name)
    try:
        return default if text is None else float(text)
    except ValueError:
        return default


def option(words: list[str], name: str) -> str | None:
    """Return the text behind an option, after a space or `=`."""
    for index, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return words[index + 1] if index + 1 < len(words) else ""
    return None
