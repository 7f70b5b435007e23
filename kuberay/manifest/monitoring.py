"""monitoring.yaml: the PodMonitor, the recording rules of the objectives, and the alerts."""

from kuberay.manifest.alerts import POD_LABELS, Alert, alerts
from kuberay.manifest.objectives import objectives, recording, requests
from kuberay.manifest.objects import Object, kubernetes_object, of_ray
from kuberay.manifest.selectors import job
from kuberay.profiles import Profile

NODE = {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}
"""The name of the pod's node, as a label of its series."""


def monitoring(profile: Profile, split: bool = False) -> list[Object]:
    """The objects that the Prometheus operator reads; none where the values say that there is none. `split`: two RayServices."""
    values = profile.values.monitoring
    if not values.enabled:
        return []
    ports = ("metrics", "as-metrics", "dash-metrics")
    monitor = {
        "selector": of_ray(profile),
        "podTargetLabels": list(POD_LABELS),
        "podMetricsEndpoints": [{"port": port, "relabelings": [NODE]} for port in ports],
    }
    recordings = [*requests(profile), *(rule for objective in objectives(profile) for rule in recording(objective))]
    groups = [
        {"name": f"{profile.service}-objectives", "rules": recordings},
        {"name": profile.service, "rules": [_rule(profile, alert) for alert in alerts(profile, split)]},
    ]
    made = [
        kubernetes_object(profile, "monitoring.coreos.com/v1", "PodMonitor", profile.service, spec=monitor),
        kubernetes_object(profile, "monitoring.coreos.com/v1", "PrometheusRule", profile.service, spec={"groups": groups}),
    ]
    for one in made:
        one["metadata"]["labels"] = dict(values.labels)
    return made


def _rule(profile: Profile, alert: Alert) -> Object:
    # Every alert has the labels of its installation, also where its expression loses them.
    installation = {"namespace": profile.namespace, "job": job(profile)}
    runbook = f"{profile.values.monitoring.runbooks}#{alert.anchor}"
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.hold,
        "labels": {"severity": alert.severity, **installation, **alert.labels},
        "annotations": {"summary": alert.summary, "runbook_url": runbook},
    }
