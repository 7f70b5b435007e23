"""Series of a normal hour, as Prometheus would have recorded them: ours from the metrics' definitions, and those of other programs."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping

from deployments.model_spec import specs
from graphs.core.metrics import BATCH, ERRORS, INGRESS, METRICS, REQUEST_DURATION, Metric
from graphs.http.schemas.openapi import ERRORS as PROBLEMS
from graphs.rollouts.state import Budgets
from kuberay.manifest import foreign_metrics as foreign
from kuberay.manifest.selectors import job
from kuberay.profiles import CPU, NAME, Profile

SCRAPE_S = 30
SCRAPES = 70 * 60 // SCRAPE_S
"""Scrapes of more than the hour: one alert needs it."""
REQUESTS = 30.0
"""Requests at each scrape of an ingress replica."""
SCALE_S = 1.5
"""Mean of the times, which fall exponentially."""
SERVICE_FAILURES = {"internal": 0.01, "overloaded": 0.05}
"""Failures of the service at each scrape, by code; of each of a client's errors there are CLIENT_FAILURES."""
CLIENT_FAILURES = 0.02
CLUSTER = "sonograph-q7x2v"
SCRAPED = {"namespace": CPU.namespace, "job": job(CPU), "ray_io_cluster": CLUSTER}
"""Labels that the PodMonitor gives to each series of Ray's pods."""

type Series = dict[str, str]
"""Values in promtool's notation, by the series' name with its labels."""


def normal_hour(stages: tuple[str, ...] = (INGRESS, "decode", "whisper", "diffusion")) -> Series:
    """Everything that alerts and dashboards read, with the events of an ordinary day: an update, a new head, a burst of refusals."""
    found: Series = {}
    for metric, replica in itertools.product(METRICS, ("ingress#1", "ingress#2")):
        for labels in _combinations(metric, stages):
            scraped = {**labels, "application": NAME, "deployment": "ingress", "replica": replica, **SCRAPED}
            found |= _of_metric(metric, scraped)
    return found | _targets() | _of_others() | _of_dashboards()


def of_another(profile: Profile, recorded: Series) -> Series:
    """The same series, of an installation with this profile's name and namespace."""
    labels = {"namespace": profile.namespace, "job": job(profile)}

    def renamed(label: re.Match[str]) -> str:
        name, rest = label.groups()
        return f'{name}="{labels.get(name, profile.service + rest)}"'

    return {re.sub(rf'(\w+)="{NAME}([^"]*)"', renamed, one): values for one, values in recorded.items()}


def series(name: str, /, **labels: str) -> str:
    return f"{name}{{{','.join(f'{label}="{value}"' for label, value in sorted(labels.items()))}}}"


def rising(by: float) -> str:
    """A counter that rises by as much at each scrape."""
    return f"0+{by:.6f}x{SCRAPES}"


def constant(value: float) -> str:
    return f"{value:g}x{SCRAPES}"


def phases(*parts: tuple[float, int]) -> str:
    """Values, each for a number of minutes; the last one to the end."""
    scrapes = [(value, minutes * 60 // SCRAPE_S) for value, minutes in parts]
    rest = SCRAPES + 1 - sum(count for _, count in scrapes[:-1])
    counts = [*(count for _, count in scrapes[:-1]), rest]
    return " ".join(f"{value:g}x{count - 1}" for (value, _), count in zip(scrapes, counts, strict=True) if count > 0)


def up(pod: str, node_type: str, endpoint: str = "metrics", revision: str = "", group: str = "headgroup") -> str:
    labels = {**SCRAPED, "pod": f"{CLUSTER}-{pod}", "endpoint": endpoint, "container": "ray"}
    labels |= {"ray_io_node_type": node_type, "ray_io_group": group}
    return series(foreign.UP, **labels, **({"sonograph_revision": revision} if revision else {}))


def _combinations(metric: Metric, stages: tuple[str, ...]) -> Iterator[dict[str, str]]:
    values = {
        "stage": stages,
        "code": tuple(problem.code for problem in PROBLEMS),
        "dropped": ("false", "true"),
        "score": tuple(name.removeprefix("max_") for name in Budgets.model_fields),
        "bound": ("value", "low", "high"),
    }
    for combination in itertools.product(*(values[label] for label in metric.labels)):
        yield dict(zip(metric.labels, combination, strict=True))


def _of_metric(metric: Metric, labels: Mapping[str, str]) -> Series:
    if metric is REQUEST_DURATION and labels["stage"] != INGRESS:
        return {}
    if metric is BATCH and labels["stage"] not in specs():
        return {}
    if metric.bounds:
        return histogram(metric, labels)
    if metric.is_gauge:
        return {series(metric.exported, **labels): constant(1)}
    if metric is ERRORS:
        if labels["code"] == "model_unavailable":  # a replica dies once
            return {series(metric.exported, **labels): phases((1, 20), (3, 100))}
        return {series(metric.exported, **labels): rising(SERVICE_FAILURES.get(labels["code"], CLIENT_FAILURES) / 4)}
    return {series(metric.exported, **labels): rising(REQUESTS)}


def histogram(metric: Metric, labels: Mapping[str, str], scale_s: float = SCALE_S, integers: bool = False) -> Series:
    """A histogram of exponentially distributed values. `integers`: bounds of whole numbers without a point, as some exporters have."""
    bucket, total, count = metric.series
    shares = [(f"{bound:g}" if integers else f"{float(bound)}", 1 - math.exp(-bound / scale_s)) for bound in metric.bounds]
    made = {series(bucket, **labels, le=le): rising(REQUESTS * share) for le, share in [*shares, ("+Inf", 1.0)]}
    return made | {series(total, **labels): rising(REQUESTS * scale_s), series(count, **labels): rising(REQUESTS)}


def _targets() -> Series:
    """The scrapes. The head is replaced once, and one scrape of an ingress pod fails."""
    return {
        up("ingress-1", "worker", group="ingress"): phases((1, 10), (0, 1), (1, 100)),
        up("ingress-2", "worker", group="ingress"): constant(1),
        up("whisper-1", "worker", group="whisper"): constant(1),
        up("head", "head"): phases((1, 30), (0, 2), (1, 100)),
        up("head", "head", "as-metrics"): phases((1, 30), (0, 3), (1, 100)),
        up("head", "head", "dash-metrics"): phases((1, 30), (0, 2), (1, 100)),
    }


def _of_others() -> Series:
    """An update of ten minutes, more replicas for some minutes, a pod that starts, and an upgrade that ends."""
    deployments = {
        series(foreign.DEPLOYMENT_STATUS, application=NAME, deployment=name, **SCRAPED): phases(
            (6, 10), (3, 10), (6, 10), (4, 8), (6, 90)
        )
        for name in ("ingress", "whisper", "diffusion")
    }
    replicas = {
        series(foreign.REPLICA_HEALTHY, application=NAME, deployment=name, replica=f"{name}#{number}", **SCRAPED): constant(1)
        for name in ("ingress", "whisper", "diffusion")
        for number in (1, 2)
    }
    return (
        deployments
        | replicas
        | {
            series(foreign.APPLICATION_STATUS, application=NAME, **SCRAPED): phases((6, 10), (5, 10), (6, 25), (2, 3), (6, 100)),
            series(foreign.PENDING_NODES, NodeType="whisper", SessionName="s", **SCRAPED): phases((0, 10), (1, 12), (0, 100)),
            series(foreign.PENDING_NODES, NodeType="ingress", SessionName="s", **SCRAPED): constant(0),
            series(foreign.UPGRADE_IN_PROGRESS, namespace=NAME, name=NAME, condition="false"): phases((1, 10)),
            series(foreign.STATEFUL_SET_READY, namespace=NAME, statefulset=f"{NAME}-redis"): phases((1, 40), (0, 2), (1, 100)),
            series(foreign.NAMESPACE_PHASE, namespace=NAME, phase="Active"): constant(1),
            series(foreign.CONTAINER_RSS, namespace=NAME, pod=f"{NAME}-redis-0", container="redis"): constant(20e6),
        }
    )


def _of_dashboards() -> Series:
    """Series that dashboards read and no alert does."""
    found: Series = {}
    for name, labels in {"whisper": {"model": "whisper"}, "diffusion": {"model": "diffusion"}}.items():
        scraped = {
            **labels,
            "application": NAME,
            "deployment": name,
            "replica": f"{name}#1",
            "pod": f"{CLUSTER}-{name}-1",
            "node": "node-1",
            **SCRAPED,
        }
        for metric in (foreign.TRITON_ENDED, foreign.TRITON_INFERENCES, foreign.TRITON_EXECUTIONS):
            found[series(metric, **scraped)] = rising(REQUESTS)
        for metric in (foreign.TRITON_QUEUE_US, foreign.TRITON_COMPUTE_US):
            found[series(metric, **scraped)] = rising(REQUESTS * 1e5)
        for metric in (foreign.TRITON_PENDING, foreign.PROCESSING, foreign.QUEUED):
            found[series(metric, **scraped)] = constant(1)
    of_diffusion = {"application": NAME, "deployment": "diffusion", "replica": "diffusion#1", **SCRAPED}
    found |= {series(metric, **of_diffusion): rising(REQUESTS) for metric in (foreign.STEPS, foreign.STEPS_SAVED)}
    for instance in ("10.0.0.1:8080", "10.0.0.2:8080"):
        for metric in (foreign.NODE_CPU, foreign.NODE_MEMORY_USED, foreign.NODE_MEMORY_TOTAL):
            found[series(metric, instance=instance, **SCRAPED)] = constant(40)
    found |= {series(foreign.ACTIVE_NODES, NodeType="whisper", SessionName="s", **SCRAPED): constant(1)}
    of_pod = {"namespace": CPU.namespace, "pod": f"{CLUSTER}-whisper-1", "container": "ray-worker"}
    found |= {series(foreign.CONTAINER_RSS, **of_pod): constant(2e9)}
    gpus = (
        foreign.GPU_USE,
        foreign.GPU_MEMORY_USED,
        foreign.GPU_MEMORY_FREE,
        foreign.GPU_POWER,
        foreign.GPU_TEMPERATURE,
        foreign.GPU_XID,
    )
    return found | {series(metric, Hostname="node-1", gpu="0"): constant(40) for metric in gpus}
