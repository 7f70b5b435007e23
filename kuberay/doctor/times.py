"""Rules: every wait for a request is longer than the request may take."""

from collections.abc import Iterator

from kuberay import app
from kuberay.doctor.manifest import Finding, Rule, Service, WorkerGroup
from kuberay.doctor.resource_requests import resource_requests, worker_group
from kuberay.manifest.rayservice import SHUTDOWN_TIER

PRE_STOP = ("lifecycle", "preStop", "exec", "command")


def each_wait_outlasts_the_next(service: Service) -> Iterator[Finding]:
    rule = each_wait_outlasts_the_next
    deadline_s = longest_deadline_s(service)
    timeout_s = (service.config.get("http_options") or {}).get("request_timeout_s")
    if timeout_s is not None and timeout_s <= deadline_s:
        sentence = (
            f"{timeout_s:g} s is not above the deadline (http.deadline_s, {deadline_s:g} s): "
            "Serve would end a request that still has time"
        )
        yield service.finding(rule, "spec.serveConfigV2: http_options.request_timeout_s", sentence)
    longest_s = deadline_s
    for request in resource_requests(service):
        longest_s = max(longest_s, request.graceful_shutdown_s)
        if request.graceful_shutdown_s <= deadline_s:
            sentence = (
                f"{request.name} has {request.graceful_shutdown_s:g} s to finish, which is not above the deadline "
                f"(http.deadline_s, {deadline_s:g} s): an update would cut requests"
            )
            yield service.finding(rule, f"{request.field}.graceful_shutdown_timeout_s", sentence)
    tier_s = {one.name: one.value for one in service.cluster.head_group_spec.ray.env}.get(SHUTDOWN_TIER)
    if tier_s is None or float(tier_s) < longest_s:
        sentence = f"{SHUTDOWN_TIER} is {tier_s}, below graceful_shutdown_timeout_s ({longest_s:g} s): a shutdown would end replicas sooner"
        field = service.field(service.cluster.head_group_spec, "template.spec.containers[0].env")
        yield service.finding(rule, field, sentence)
    for group in service.groups:
        drain_s = _drain_s(group)
        if drain_s is not None and drain_s <= longest_s:
            sentence = (
                f"the pod waits {drain_s:g} s for its requests, which is not above graceful_shutdown_timeout_s ({longest_s:g} s)"
            )
            yield service.finding(rule, service.field(group, f"template.spec.containers[0].{'.'.join(PRE_STOP)}"), sentence)
        ends_s, waits_s = group.template.spec.termination_grace_period_seconds, drain_s or longest_s
        if ends_s <= waits_s:
            sentence = f"Kubernetes kills the pod after {ends_s} s, which is not above its wait before ({waits_s:g} s)"
            yield service.finding(rule, service.field(group, "template.spec.terminationGracePeriodSeconds"), sentence)
    delay_s = service.parsed.spec.ray_cluster_deletion_delay_seconds
    drains_s = max((_drain_s(group) or 0 for group in service.groups), default=0)
    if delay_s <= max(longest_s, drains_s):
        sentence = f"the old cluster ends {delay_s} s after an upgrade, while its pods may wait {max(longest_s, drains_s):g} s"
        yield service.finding(rule, "spec.rayClusterDeletionDelaySeconds", sentence)


def a_pod_waits_for_its_requests(service: Service) -> Iterator[Finding]:
    """Every pod with a replica has one of Serve's proxies, which ends first."""
    for group in service.groups:
        if _drain_s(group) is None and any(worker_group(service, request) is group for request in resource_requests(service)):
            sentence = (
                f"a pod of {group.group_name} that is deleted ends Serve's proxy first, and so cuts its requests: "
                "make it wait with `sonograph drain --most-s SECONDS`"
            )
            field = service.field(group, f"template.spec.containers[0].{'.'.join(PRE_STOP)}")
            yield service.finding(a_pod_waits_for_its_requests, field, sentence)


def longest_deadline_s(service: Service) -> float:
    return max((_deadline_s(application) for application in service.config["applications"]), default=0.0)


def _deadline_s(application: dict[str, object]) -> float:
    """http.deadline_s as the app takes it, its default too; 0 for an app that has none."""
    try:
        return float(app.settings(application).http.deadline_s)
    except Exception:  # rules of their own report it; or the app is of another kind
        return 0.0


def _drain_s(group: WorkerGroup) -> float | None:
    command: object = group.ray.lifecycle
    for key in PRE_STOP[1:]:
        command = command.get(key) if isinstance(command, dict) else None
    words = [str(word) for word in command] if isinstance(command, list) else []
    if words[:2] != ["sonograph", "drain"] or "--most-s" not in words[:-1]:
        return None
    try:
        return float(words[words.index("--most-s") + 1])
    except ValueError:
        return None


RULES: tuple[Rule, ...] = (each_wait_outlasts_the_next, a_pod_waits_for_its_requests)
