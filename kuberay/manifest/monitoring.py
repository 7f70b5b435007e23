"""monitoring.yaml: the PodMonitor, the recording rules of the objectives, and the alerts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kuberay.manifest.alerts import POD_LABELS, Alert, alerts
from kuberay.manifest.objectives import objectives, recording, requests
from kuberay.manifest.objects import OF_RAY, Object, kubernetes_object
from kuberay.profiles import Profile

RELEASE = {"release": "kube-prometheus-stack"}
RUNBOOKS = "docs/operations.md"
NODE = {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}
"""The name of the pod's node, as a label of its series."""
LABEL = re.compile(r"([A-Za-z0-9._/-]+)=([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)")


@dataclass(frozen=True)
class Monitoring:
    """Values that depend on the cluster's Prometheus."""

    labels: Mapping[str, str] = field(default_factory=lambda: RELEASE)
    """Labels by which it selects PodMonitors and PrometheusRules: kube-prometheus-stack's own selects `release`, its Helm release."""
    runbooks: str = RUNBOOKS
    """Address of docs/operations.md, for the alerts' links."""

    @property
    def options(self) -> tuple[str, ...]:
        """Options of `sonograph render` with these values."""
        labels = [f"--monitoring-label {name}={value}" for name, value in self.labels.items()] if self.labels != RELEASE else []
        return *labels, *([f"--runbooks {self.runbooks}"] if self.runbooks != RUNBOOKS else [])


def parse_label(text: str) -> tuple[str, str]:
    """Name and value of a Kubernetes label, from NAME=VALUE. Raises ValueError, whose sentence says what to change."""
    found = LABEL.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no label: give NAME=VALUE, such as release=prometheus")
    return found[1], found[2]


def monitoring(profile: Profile, split: bool = False, values: Monitoring | None = None) -> list[Object]:
    """`split`: two RayServices."""
    values = values or Monitoring()
    ports = ("metrics", "as-metrics", "dash-metrics")
    monitor = {
        "selector": OF_RAY,
        "podTargetLabels": list(POD_LABELS),
        "podMetricsEndpoints": [{"port": port, "relabelings": [NODE]} for port in ports],
    }
    measured = objectives(profile.times.deadline_s)
    groups = [
        {"name": f"{profile.service}-objectives", "rules": [*requests(), *(rule for one in measured for rule in recording(one))]},
        {"name": profile.service, "rules": [_rule(alert, values.runbooks) for alert in alerts(profile, split)]},
    ]
    made = [
        kubernetes_object("monitoring.coreos.com/v1", "PodMonitor", profile.service, spec=monitor),
        kubernetes_object("monitoring.coreos.com/v1", "PrometheusRule", profile.service, spec={"groups": groups}),
    ]
    for one in made:
        one["metadata"]["labels"] = dict(values.labels)
    return made


def _rule(alert: Alert, runbooks: str) -> Object:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.hold,
        "labels": {"severity": alert.severity, **alert.labels},
        "annotations": {"summary": alert.summary, "runbook_url": f"{runbooks}#{alert.anchor}"},
    }
