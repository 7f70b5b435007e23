"""Grafana's dashboards, generated from the metrics' own definitions: docs/dashboards/*.json.

A metric that is declared in graphs/core/metrics.py has its panel without a change here.
"""

import json
from dataclasses import dataclass
from typing import Any

from graphs.core.metrics import CANCELLATIONS, DECLARED, ERRORS, INGRESS, REQUEST_DURATION, REQUESTS, Metric
from kuberay.manifest import foreign_metrics as foreign
from kuberay.manifest.objectives import FAILURES, OF_STABLE

ALL = {"namespace": ".*", "application": ".+"}
"""Value by variable for `All`. Outside of Kubernetes series have no namespace."""
OF_NAMESPACE = 'namespace=~"$namespace"'
SELECTED = f'{OF_NAMESPACE},application=~"$application"'
"""Matchers of a series that has an application. Those of nodes, targets and the autoscaler have none."""
APPLICATION = "namespace, application"
"""Labels by which installations are told apart, where several are selected."""
QUANTILES = (0.5, 0.9, 0.99)
WINDOW = "5m"
NEEDS_GPU = "no data without a GPU and NVIDIA's DCGM exporter"
NEEDS_KUBERNETES = "no data outside of Kubernetes"
NEEDS_ROLLOUT = "no data without a rollout"


@dataclass(frozen=True)
class Panel:
    title: str
    queries: tuple[tuple[str, str], ...]
    """PromQL and its legend in Grafana's notation."""
    unit: str = "short"
    """One of Grafana's units."""
    absent: str = ""
    """Reason why a service in health, on one machine, has no data here whatever its clients do: the panel's description."""
    is_table: bool = False


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    panels: tuple[Panel, ...]


def dashboards() -> tuple[Dashboard, ...]:
    of_ingress = (REQUESTS, ERRORS, CANCELLATIONS, REQUEST_DURATION)
    of_stages = [metric for metric in DECLARED if metric is not REQUEST_DURATION]
    service = (_failures(), *(_panel(metric, f'stage="{INGRESS}"' if metric is not ERRORS else "") for metric in of_ingress))
    stages = (*(_panel(metric, f'stage!="{INGRESS}"') for metric in of_stages), _steps())
    rollouts_last = tuple(sorted(stages, key=lambda panel: panel.absent == NEEDS_ROLLOUT))
    return (
        Dashboard("service", "Sonograph: service", service),
        Dashboard("stages", "Sonograph: stages", rollouts_last),
        Dashboard("gpu", "Sonograph: GPUs", _gpu()),
        Dashboard("ray", "Sonograph: Ray Serve and Triton", _ray()),
        Dashboard("cluster", "Sonograph: cluster", _cluster()),
    )


def files() -> dict[str, str]:
    """Text by the file's name."""
    return {f"{one.name}.json": json.dumps(grafana(one), indent=1) + "\n" for one in dashboards()}


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    return {
        "uid": f"sonograph-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["sonograph"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), *_variables()]},
        "panels": [_grafana_panel(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(metric: Metric, matcher: str) -> Panel:
    """The panel of one of our metrics, by its labels."""
    matchers = ",".join(part for part in (SELECTED, matcher) if part)
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    absent = NEEDS_ROLLOUT if "_rollout_" in metric.name else ""
    title = metric.meaning[0].upper() + metric.meaning[1:]
    unit = "s" if metric.name.endswith("_seconds") and metric.bounds else "short"
    if metric.bounds:
        by = ", ".join((*metric.labels, "le"))
        bucket = f"sum by ({by}) (rate({metric.series[0]}{{{matchers}}}[{WINDOW}]))"
        quantiles = tuple((f"histogram_quantile({share}, {bucket})", f"{share:.0%} {legend}") for share in QUANTILES)
        total, observations = (_rate(counter, matchers) for counter in metric.counters)
        return Panel(title, (*quantiles, (f"{total} / {observations}", f"mean {legend}")), unit, absent)
    if metric.is_gauge:
        return Panel(title, ((f"max by ({', '.join(metric.labels)}) ({metric.exported}{{{matchers}}})", legend),), unit, absent)
    return Panel(f"{title}, per second", ((_rate(metric, matchers), legend),), unit, absent)


def _rate(metric: Metric, matchers: str) -> str:
    return f"sum by ({', '.join(metric.labels)}) (rate({metric.exported}{{{matchers}}}[{WINDOW}]))"


def _failures() -> Panel:
    requests = f'sum(rate({REQUESTS.exported}{{{SELECTED},stage="{INGRESS}"}}[{WINDOW}]))'
    failed = f'sum(rate({ERRORS.exported}{{{SELECTED},code=~"{"|".join(FAILURES)}",{OF_STABLE}}}[{WINDOW}]))'
    refused = f'sum by (code) (rate({ERRORS.exported}{{{SELECTED},code=~"overloaded|rate_limit_exceeded"}}[{WINDOW}]))'
    queries = (
        (f"({failed} or {requests} * 0) / {requests}", "failed"),
        (f"{refused} / on () group_left () {requests}", "{{code}}"),
    )
    return Panel("Share of the requests that the service fails, and that it refuses", queries, "percentunit")


def _steps() -> Panel:
    queries = tuple(
        (f"sum by ({APPLICATION}) (rate({metric}{{{SELECTED}}}[{WINDOW}]))", f"{{{{namespace}}}} {{{{application}}}} {legend}")
        for metric, legend in ((foreign.STEPS, "ran"), (foreign.STEPS_SAVED, "saved by a cancellation"))
    )
    return Panel("Denoising steps, per second", queries)


def _gpu() -> tuple[Panel, ...]:
    def by_gpu(metric: str) -> str:
        return f"max by (Hostname, gpu) ({metric})"

    memory = f"{by_gpu(foreign.GPU_MEMORY_USED)} / ({by_gpu(foreign.GPU_MEMORY_USED)} + {by_gpu(foreign.GPU_MEMORY_FREE)})"
    legend = "{{Hostname}} {{gpu}}"
    return (
        Panel("Use", ((by_gpu(foreign.GPU_USE), legend),), "percent", NEEDS_GPU),
        Panel("Share of the memory in use", ((memory, legend),), "percentunit", NEEDS_GPU),
        Panel("Power", ((by_gpu(foreign.GPU_POWER), legend),), "watt", NEEDS_GPU),
        Panel("Temperature", ((by_gpu(foreign.GPU_TEMPERATURE), legend),), "celsius", NEEDS_GPU),
        Panel("Number of the last XID error", ((by_gpu(foreign.GPU_XID), legend),), "short", NEEDS_GPU),
    )


def _ray() -> tuple[Panel, ...]:
    def rate(metric: str) -> str:
        return f"sum by ({APPLICATION}, model) (rate({metric}{{{SELECTED}}}[{WINDOW}]))"

    def mean_s(metric: str) -> str:
        return f"{rate(metric)} / 1e6 / {rate(foreign.TRITON_ENDED)}"

    batch = f"{rate(foreign.TRITON_INFERENCES)} / {rate(foreign.TRITON_EXECUTIONS)}"
    where = f"sum by ({APPLICATION}, deployment, replica, pod, node) ({foreign.PROCESSING}{{{SELECTED}}})"
    healthy = f"sum by ({APPLICATION}, deployment) ({foreign.REPLICA_HEALTHY}{{{SELECTED}}})"
    queued = f"sum by ({APPLICATION}, deployment) ({foreign.QUEUED}{{{SELECTED}}})"
    pending = f"sum by ({APPLICATION}, model) ({foreign.TRITON_PENDING}{{{SELECTED}}})"
    deployment, model = (f"{{{{namespace}}}} {{{{application}}}} {{{{{label}}}}}" for label in ("deployment", "model"))
    return (
        Panel("Requests in each replica, its pod and its node", ((where, ""),), is_table=True),
        Panel("Healthy replicas", ((healthy, deployment),)),
        Panel("Requests in Serve's queues", ((queued, deployment),)),
        Panel("Triton: requests that ended, per second", ((rate(foreign.TRITON_ENDED), model),)),
        Panel("Triton: mean time in its queue", ((mean_s(foreign.TRITON_QUEUE_US), model),), "s"),
        Panel(
            "Triton: mean time of a model's execute, 0 where it returns at once",
            ((mean_s(foreign.TRITON_COMPUTE_US), model),),
            "s",
        ),
        Panel("Triton: mean batch", ((batch, model),)),
        Panel("Triton: requests that wait", ((pending, model),)),
    )


def _cluster() -> tuple[Panel, ...]:
    def selected(metric: str, *matchers: str) -> str:
        return f"{metric}{{{','.join((OF_NAMESPACE, *matchers))}}}"

    used, total = (f"max by (instance) ({selected(one)})" for one in (foreign.NODE_MEMORY_USED, foreign.NODE_MEMORY_TOTAL))
    status = f"max by ({APPLICATION}) ({foreign.APPLICATION_STATUS}{{{SELECTED}}})"
    joined, pending = (f"sum by (job, NodeType) ({selected(one)})" for one in (foreign.ACTIVE_NODES, foreign.PENDING_NODES))
    of_all_pods = f"max by (namespace, pod) ({selected(foreign.CONTAINER_RSS, 'container!=""')})"
    of_ray = f"{of_all_pods} and on (namespace, pod) {selected(foreign.UP, 'ray_io_cluster!=""')}"
    redis = selected(foreign.CONTAINER_RSS, 'pod=~"($application)-redis-[0-9]+"', 'container="redis"')
    of_redis = f"max by (namespace, pod) ({redis})"
    application, group, pod = "{{namespace}} {{application}}", "{{job}} {{NodeType}}", "{{namespace}} {{pod}}"
    return (
        Panel("Status of the application (6: running, 5: deploying, 2: unhealthy, 1: failed)", ((status, application),)),
        Panel("Targets that answer Prometheus", ((f"sum by (job) ({selected(foreign.UP)})", "{{job}}"),)),
        Panel("CPU of each Ray node", ((f"max by (instance) ({selected(foreign.NODE_CPU)})", "{{instance}}"),), "percent"),
        Panel("Share of the memory of each Ray node", ((f"{used} / {total}", "{{instance}}"),), "percentunit"),
        Panel("Pods that have joined Ray", ((joined, group),)),
        Panel("Pods that are waited for", ((pending, group),)),
        Panel("Memory of each pod, without the page cache", ((of_ray, pod), (of_redis, pod)), "bytes", NEEDS_KUBERNETES),
    )


def _grafana_panel(panel: Panel, number: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.absent,
        "type": "table" if panel.is_table else "timeseries",
        "datasource": source,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
            | ({"format": "table", "instant": True} if panel.is_table else {})
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variables() -> list[dict[str, Any]]:
    """The choice of installations: of namespaces, and of their applications."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    choice = {"includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}}
    series = {"namespace": REQUESTS.exported, "application": f"{REQUESTS.exported}{{{OF_NAMESPACE}}}"}
    return [
        {"name": name, "type": "query", "datasource": source, "query": query, "refresh": 2, **choice, "allValue": ALL[name]}
        for name, query in ((name, f"label_values({one}, {name})") for name, one in series.items())
    ]
