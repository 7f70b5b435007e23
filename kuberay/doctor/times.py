"""Rules: every wait for a request is longer than the request may take."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kuberay import app
from kuberay.doctor.finding import Finding, rule
from kuberay.doctor.manifest import Group, Service
from kuberay.doctor.resource_requests import resource_requests, worker_group
from kuberay.manifest.rayservice import DRAIN, SHUTDOWN_TIER

ENV = "template.spec.containers[0].env"
PRE_STOP = "template.spec.containers[0].lifecycle.preStop"
RAY_DRAIN_S = 30.0
"""Ray's own limit of a drain, where the pod has none."""
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
            f"{timeout_s:g} s is not above the deadline (http.deadline_s, {deadline_s:g} s): "
            "Serve would end a request that still has time"
        )
        yield service.finding(own, "spec.serveConfigV2: http_options.request_timeout_s", sentence)
    longest_s = deadline_s
    for request in resource_requests(service):
        longest_s = max(longest_s, request.graceful_shutdown_s)
        if request.graceful_shutdown_s <= deadline_s:
            sentence = (
                f"{request.name} has {request.graceful_shutdown_s:g} s to finish, which is not above the deadline "
                f"(http.deadline_s, {deadline_s:g} s): an update would cut requests"
            )
            yield service.finding(own, f"{request.field}.graceful_shutdown_timeout_s", sentence)
    tier_s = _env(service.cluster.head_group_spec, SHUTDOWN_TIER)
    if tier_s is None or float(tier_s) < longest_s:
        sentence = f"{SHUTDOWN_TIER} is {tier_s}, below graceful_shutdown_timeout_s ({longest_s:g} s): a shutdown would end replicas sooner"
        field = service.field(service.cluster.head_group_spec, ENV)
        yield service.finding(own, field, sentence)
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
            yield service.finding(own, service.field(pod, "template.spec.terminationGracePeriodSeconds"), sentence)
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
            yield service.finding(a_pod_settles_before_it_drains, service.field(group, PRE_STOP), sentence)


def longest_deadline_s(service: Service) -> float:
    return max((_deadline_s(application) for application in service.config["applications"]), default=0.0)


def _deadline_s(application: dict[str, object]) -> float:
    """http.deadline_s as the app takes it, its default too; 0 for an app that has none."""
    try:
        return float(app.settings(application).http.deadline_s)
    except Exception:  # rules of their own report it; or the app is of another kind
        return 0.0


def _env(group: Group, name: str) -> str | None:
    return {one.name: one.value for one in group.ray.env}.get(name)


def _rays_drain_s(group: Group) -> float:
    """Seconds for which Ray drains the node after the hook."""
    value = _env(group, DRAIN)
    return RAY_DRAIN_S if value is None else float(value)


@dataclass(frozen=True)
class _Hook:
    """A preStop hook. `drains`: whether it is `sonograph drain`."""

    settle_s: float = 0.0
    drain_s: float = 0.0
    drains: bool = False


def _hook(group: Group) -> _Hook:
    """Return the waits of the preStop hook: `sonograph drain`, `sleep` or Kubernetes' own action; none with another."""
    hook: object = group.ray.lifecycle.get("preStop")
    match hook:
        case {"sleep": {"seconds": int(seconds)}}:
            return _Hook(seconds)
        case {"exec": {"command": ["sleep", str(seconds)]}} if seconds.isdecimal():
            return _Hook(int(seconds))
        case {"exec": {"command": ["sh", "-c", str(line)]}} if "sonograph drain" in line:
            options = {name: float(value) for name, value in re.findall(r"--(\w+)-s[ =](\d+)", line)}
            return _Hook(options.get("settle", SETTLE_S), options.get("most", DRAIN_S), drains=True)
    return _Hook()
