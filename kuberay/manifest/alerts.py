"""The alerts. Each has a section of its name in docs/runbooks.md, which its annotation `runbook_url` links to."""

import math
from dataclasses import dataclass, field
from functools import partial

from graphs.core.metrics import ERRORS, QUEUE_DURATION
from kuberay.manifest.foreign_metrics import (
    APPLICATION_STATUS,
    CONTAINER_RSS,
    DEPLOYMENT_STATUS,
    NAMESPACE_PHASE,
    PENDING_NODES,
    REPLICA_HEALTHY,
    STATEFUL_SET_READY,
    UP,
    UPGRADE_IN_PROGRESS,
)
from kuberay.manifest.objectives import FAST, OF_STABLE, SLOW, Objective, burning, objectives, requests_rate
from kuberay.manifest.objects import CLUSTER, GROUP, NODE_TYPE, REVISION
from kuberay.manifest.redis import REDIS_MAXMEMORY_MIB
from kuberay.manifest.selectors import BY, of_installation, of_namespace
from kuberay.profiles import Profile

POD_LABELS = (CLUSTER, NODE_TYPE, GROUP, REVISION)
"""Labels of the pods that their series have too, with `_` for other characters than letters and digits."""


@dataclass(frozen=True)
class Alert:
    name: str
    expression: str
    """PromQL."""
    hold: str
    """Time for which the expression has to hold, as Prometheus writes it."""
    severity: str
    """`critical`: requests fail, or nothing repairs itself any more; `warning`: it can wait for the next working day."""
    summary: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """Anchor of its section of docs/runbooks.md, as GitHub makes it of a heading."""
        return self.name.lower()


def alerts(profile: Profile, split: bool = False) -> list[Alert]:
    """`split`: two RayServices. The service's alerts count by application, so that a candidate of few requests triggers them too."""
    waits_s = math.floor(profile.times.deadline_s / 4)
    applications = {profile.service: "", **({profile.candidate: "candidate"} if split else {})}
    unavailable = of_installation(profile, ERRORS.exported, 'code="model_unavailable"', OF_STABLE)
    queued = of_installation(profile, f"{QUEUE_DURATION.exported}_bucket")
    return [
        *(alert for objective in objectives(profile) for alert in _of_objective(profile, objective)),
        *(alert for name, revision in applications.items() for alert in _of_outage(profile, name, revision)),
        Alert(
            "SonographModelUnavailable",
            f"sum by (application, stage) (rate({unavailable}[5m])) > 0",
            "5m",
            "critical",
            "No replica of {{ $labels.stage }} in {{ $labels.application }} serves.",
        ),
        Alert(
            "SonographQueue",
            f"histogram_quantile(0.9, sum by (application, stage, le) (rate({queued}[5m]))) > {waits_s}",
            "5m",
            "warning",
            f"1 request in 10 waits more than {waits_s} s for {{{{ $labels.stage }}}} of {{{{ $labels.application }}}}.",
        ),
        Alert(
            "SonographOverloaded",
            _share(profile, "overloaded", 0.05),
            "5m",
            "warning",
            "{{ $labels.application }} refuses {{ $value | humanizePercentage }} of the requests as overloaded (503).",
        ),
        Alert(
            "SonographRateLimited",
            _share(profile, "rate_limit_exceeded", 0.2),
            "15m",
            "warning",
            "{{ $labels.application }} refuses {{ $value | humanizePercentage }} of the requests by their keys' limits (429).",
        ),
        *_of_deploys(profile, tuple(applications)),
        *_of_cluster(profile),
        *_of_redis(profile),
    ]


def _of_objective(profile: Profile, objective: Objective) -> list[Alert]:
    share = f"{{{{ $value | humanizePercentage }}}} of the requests of {{{{ $labels.application }}}} {objective.meaning}"
    return [
        Alert(objective.name, burning(profile, objective, FAST), FAST.hold, FAST.severity, f"{share}."),
        Alert(f"{objective.name}Slowly", burning(profile, objective, SLOW), SLOW.hold, SLOW.severity, f"{share}, for hours."),
    ]


def _of_outage(profile: Profile, application: str, revision: str) -> list[Alert]:
    """Alerts on series that are missing: where nothing is measured, no share of it rises."""
    labels = {"application": application}
    of_application = f'application="{application}"'
    status = of_installation(profile, APPLICATION_STATUS, of_application)
    healthy = of_installation(profile, REPLICA_HEALTHY, of_application, 'deployment="ingress"')
    # Empty: that of the first RayService's pods, which have no such label.
    up = partial(of_installation, profile, UP, 'endpoint="metrics"', f'sonograph_revision="{revision}"')
    return [
        Alert(
            "SonographDown",
            f"absent({up('ray_io_group="ingress"')} == 1)",
            "3m",
            "critical",
            f"No pod of {application}'s ingress answers Prometheus: the service is down, or nothing measures it.",
            labels,
        ),
        Alert(
            "SonographIngressDown",
            # The controller reports both; while there is none, it says nothing of the replicas, which serve on.
            f"absent({healthy} > 0) and on () {status} > 0",
            "5m",
            "critical",
            f"No replica of {application}'s ingress is healthy: the pods answer every request with 503.",
            labels,
        ),
        Alert(
            "SonographHeadDown",
            f"absent({up('ray_io_node_type="head"')} == 1)",
            "5m",
            "critical",
            f"{application} has no head: it answers requests, and replaces no replica, scales nothing and deploys nothing.",
            labels,
        ),
        Alert(
            "SonographStatusMissing",
            f"absent({status})",
            "10m",
            "critical",
            f"Serve's controller reports no application {application}: it was deleted, was never deployed, or the controller is down.",
            labels,
        ),
    ]


def _of_deploys(profile: Profile, applications: tuple[str, ...]) -> list[Alert]:
    status = f"max by (application, ray_io_cluster) ({of_installation(profile, APPLICATION_STATUS)})"
    of_deployment = f"max by (application, deployment, ray_io_cluster) ({of_installation(profile, DEPLOYMENT_STATUS)})"
    upgrading = of_namespace(profile, UPGRADE_IN_PROGRESS, f'name=~"{"|".join(applications)}"', 'condition="true"')
    of_cluster = "{{ $labels.application }} in the cluster {{ $labels.ray_io_cluster }}"
    return [
        Alert("SonographDeployFailed", f"{status} == 1", "1m", "critical", f"The deploy of {of_cluster} has failed for good."),
        Alert("SonographUnhealthy", f"{status} == 2", "10m", "critical", f"A deployment of {of_cluster} does not get healthy."),
        Alert("SonographDeployStuck", f"{status} == 5", "30m", "warning", f"The deploy of {of_cluster} does not end."),
        Alert(
            "SonographUpgradeStuck",
            f"max by (name) ({upgrading}) == 1",
            "1h",
            "warning",
            "The upgrade of the RayService {{ $labels.name }} does not end: its second cluster does not serve.",
        ),
        Alert(
            "SonographReplicasMissing",
            f"{of_deployment} == 4",
            "30m",
            "warning",
            f"Replicas of {{{{ $labels.deployment }}}} of {of_cluster} find no place.",
        ),
    ]


def _of_cluster(profile: Profile) -> list[Alert]:
    head = of_installation(profile, UP, 'endpoint="metrics"', 'ray_io_node_type="head"')
    autoscaler = of_installation(profile, UP, 'endpoint="as-metrics"')
    pending = of_installation(profile, PENDING_NODES)
    return [
        Alert(
            "SonographAutoscalerDown",
            # An autoscaler that fails ends, and its container starts again: half of the scrapes may succeed.
            f"avg_over_time({autoscaler}[15m]) < 0.5 and on (namespace, pod) {head} == 1",
            "5m",
            "warning",
            "The autoscaler of the cluster {{ $labels.ray_io_cluster }} does not run: no pod is added or removed.",
        ),
        Alert(
            "SonographPodsPending",
            f"sum by (ray_io_cluster, NodeType) ({pending}) > 0",
            "30m",
            "warning",
            "Pods of the group {{ $labels.NodeType }} of {{ $labels.ray_io_cluster }} do not start, or do not join Ray.",
        ),
    ]


def _of_redis(profile: Profile) -> list[Alert]:
    """Alerts on the rendered Redis; one of the values is measured where it runs."""
    if profile.values.redis.address:
        return []
    name = f"{profile.service}-redis"
    ready = of_namespace(profile, STATEFUL_SET_READY, f'statefulset="{name}"')
    counted = of_namespace(profile, NAMESPACE_PHASE, 'phase="Active"')
    rss = of_namespace(profile, CONTAINER_RSS, f'pod=~"{name}-[0-9]+"', 'container="redis"')
    return [
        Alert(
            "SonographRedisDown",
            # No series where the StatefulSet is gone; nor where kube-state-metrics is not installed, which is no outage.
            f"{ready} < 1 or absent({ready}) and on () {counted} == 1",
            "5m",
            "critical",
            "Redis is not ready: while it is down a head that dies does not come back.",
        ),
        Alert(
            "SonographRedisMemory",
            f"max by (pod) ({rss}) > {_REDIS_PART} * {REDIS_MAXMEMORY_MIB} * 1024 * 1024",
            "15m",
            "warning",
            f"Redis holds {{{{ $value | humanize1024 }}}}B, and refuses writes at {REDIS_MAXMEMORY_MIB} MiB.",
        ),
    ]


_REDIS_PART = 0.8


def _share(profile: Profile, code: str, most: float) -> str:
    """Condition that more than `most` of the requests are refused with `code`."""
    refused = of_installation(profile, ERRORS.exported, f'code="{code}"')
    return f"sum by ({BY}) (rate({refused}[5m])) / {requests_rate(profile, '5m')} > {most}"
