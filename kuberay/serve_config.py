"""Serve configs: serveConfigV2 of a profile, and graphs/local.yaml."""

from collections.abc import Mapping
from typing import Any

from kuberay.profiles import CPU, IMPORT_PATH, NAME, PORT, Profile, Times
from kuberay.worker_groups import INGRESS, Deployment, Group

LOCAL_TIMES = Times(120)
"""http.deadline_s is at its default on one machine."""
STANDARD_OUTPUT = "/proc/1/fd/1"
"""Standard output of a pod's container: that of its first process, which a replica inherits nothing of. Both have the same user."""
LOGS = {"encoding": "JSON"}
LOCAL_CPUS = 1
"""CPUs of each model on one machine, as in `deployments.base.bind`: two models start on two cores."""


def cluster(profile: Profile, name: str = NAME) -> dict[str, Any]:
    """The config that KubeRay submits to Serve: every deployment pinned, with all that the doctor compares with its group.

    `name`: the application's, a label of all its metrics.
    """
    deployments = [_pinned(deployment, group, profile) for group in profile.groups for deployment in group.deployments]
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORT, "request_timeout_s": profile.times.request_timeout_s},
        "logging_config": LOGS,
        "applications": [_application(name, _on_cluster(profile), deployments, LOGS)],
    }


def local(profile: Profile = CPU) -> dict[str, Any]:
    """The config of one machine, with the profile's models at their default settings. It has no worker groups: nothing is pinned."""
    models = [
        {"name": spec.name, "ray_actor_options": {"num_cpus": LOCAL_CPUS}}
        for spec, _ in profile.changed({"settings": None}).models
    ]
    return {
        "http_options": {"host": "127.0.0.1", "port": PORT, "request_timeout_s": LOCAL_TIMES.request_timeout_s},
        "applications": [_application(NAME, {}, [{"name": INGRESS.name}, *models], {})],
    }


def _on_cluster(profile: Profile) -> dict[str, Any]:
    """The profile's settings, with a process that decodes for each CPU of the ingress, and the log on the pods' standard output."""
    cpus = profile.group_of(INGRESS.name).deployments[0].cpus
    return {
        **profile.args,
        "audio": {"decode_workers": cpus, **profile.args.get("audio", {})},
        "logging": {"output": STANDARD_OUTPUT, **profile.args.get("logging", {})},
    }


def _application(name: str, args: dict[str, Any], deployments: list[dict[str, Any]], logs: Mapping[str, Any]) -> dict[str, Any]:
    """An application. Its models write no line for each call: the ingress's line of the request has their time, its trace the rest."""
    return {
        "name": name,
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "args": args,
        "logging_config": {**logs, "enable_access_log": False},
        "deployments": deployments,
    }


def _pinned(deployment: Deployment, group: Group, profile: Profile) -> dict[str, Any]:
    return {
        "name": deployment.name,
        **_replicas(deployment),
        "max_surge_percent": group.surge_percent,
        "graceful_shutdown_timeout_s": profile.times.graceful_shutdown_s,
        "ray_actor_options": {
            "num_cpus": deployment.cpus,
            **({"num_gpus": deployment.gpus} if deployment.gpus else {}),
            "resources": {deployment.name: 1},
            "label_selector": group.labels,
        },
    }


def _replicas(deployment: Deployment) -> dict[str, Any]:
    if deployment.min_replicas == deployment.max_replicas:
        return {"num_replicas": deployment.min_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": deployment.min_replicas,
            "max_replicas": deployment.max_replicas,
            "target_ongoing_requests": deployment.target_ongoing_requests,
            "upscale_delay_s": deployment.upscale_delay_s,
            "downscale_delay_s": deployment.downscale_delay_s,
        }
    }
