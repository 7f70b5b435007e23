"""monitoring.yaml: the PodMonitor and the alerts."""

import math

from graphs.core.metrics import ERRORS, QUEUE_DURATION, REQUESTS
from kuberay.manifest.objects import OF_RAY, Object, kubernetes_object
from kuberay.profiles import NAME, Profile


def monitoring(profile: Profile) -> list[Object]:
    ports = ("metrics", "as-metrics", "dash-metrics")
    monitor = {"selector": OF_RAY, "podMetricsEndpoints": [{"port": port} for port in ports]}
    rules = {"groups": [{"name": NAME, "rules": alerts(profile)}]}
    return [
        kubernetes_object("monitoring.coreos.com/v1", "PodMonitor", NAME, spec=monitor),
        kubernetes_object("monitoring.coreos.com/v1", "PrometheusRule", NAME, spec=rules),
    ]


def alerts(profile: Profile) -> list[Object]:
    """Each counts by application, so that a candidate that takes few of the requests triggers them too."""
    failing = _rate(ERRORS.exported, 'code=~"internal|model_unavailable"')
    entered = _rate(REQUESTS.exported, 'stage="ingress"')
    waits_s = math.floor(profile.times.deadline_s / 4)
    return [
        _alert(
            "SonographErrors",
            f"{failing} > 0.05 * {entered}",
            "critical",
            "More than 1 request in 20 of {{ $labels.application }} fails for a reason other than its client.",
        ),
        _alert(
            "SonographModelUnavailable",
            f'sum by (application, stage) (rate({ERRORS.exported}{{code="model_unavailable"}}[5m])) > 0',
            "critical",
            "No replica of {{ $labels.stage }} in {{ $labels.application }} serves: see GET /readyz, "
            "and whether Kubernetes has a node for its pod.",
        ),
        _alert(
            "SonographQueue",
            f"histogram_quantile(0.9, sum by (application, stage, le) (rate({QUEUE_DURATION.exported}_bucket[5m]))) > {waits_s}",
            "warning",
            f"1 request in 10 waits more than {waits_s} s for {{{{ $labels.stage }}}} of {{{{ $labels.application }}}}: "
            "it needs more replicas.",
        ),
    ]


def _rate(metric: str, labels: str) -> str:
    return f"sum by (application) (rate({metric}{{{labels}}}[5m]))"


def _alert(name: str, expression: str, severity: str, summary: str) -> Object:
    return {
        "alert": name,
        "expr": expression,
        "for": "5m",
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }
