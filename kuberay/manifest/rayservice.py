"""rayservice.yaml: the head, which takes no work, and a worker group for each image."""

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from kuberay import serve_config
from kuberay.images import Images
from kuberay.manifest.objects import CONTAINER_SECURITY, HEAD_PORTS, POD_SECURITY, PORTS, REVISION, Object
from kuberay.manifest.weights import wait_for_weights
from kuberay.profiles import (
    AUTOSCALER_CPU,
    KEYS,
    KEYS_SECRET,
    PORT,
    REDIS_SECRET,
    SETTLE_S,
    WEIGHTS,
    Profile,
)
from kuberay.versions import RAY
from kuberay.worker_groups import Group

RAY_ENV = Path(__file__).parents[2] / "graphs" / "ray.env"
NODES = "sonograph/nodes"
"""Annotation: the nodes that the profile is made for, which the doctor packs the pods onto."""
SIZES = "sonograph/sizes"
"""Annotation: `measured` or `estimate`, of the sizes."""
START_PARAMS = {
    "dashboard-agent-grpc-port": "52366",
    "runtime-env-agent-port": "52367",
    "include-log-monitor": "false",
}
"""Parameters of `ray start` in every pod, as text, for a start on a slow node: it ends where the raylet has not registered after 30 s,
which no setting changes. With ports that Ray chooses the raylet first waits for the agents. The log monitor (45 MiB, 3 s of CPU)
sends the lines of tasks to drivers, of which there are none."""
RETRIES = {"RAY_NUM_REDIS_GET_RETRIES": "150"}
"""Attempts, 2 s apart, to find the head's node: 40 s by default, after which the worker's pod ends."""
SHUTDOWN_TIER = "RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S"
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""Seconds for which `ray start --block` drains its node after SIGTERM: none, since a worker has drained in its preStop hook by then,
and the head has no replicas. With the head gone, Ray's drain would wait for its whole limit."""


def ray_service(profile: Profile, images: Images, candidate: bool = False) -> Object:
    """`candidate`: the second RayService. Both share Redis, the volume of the weights and the API keys."""
    times = profile.times
    name = profile.candidate if candidate else profile.service
    labels: Object = {"metadata": {"labels": {REVISION: "candidate"}}} if candidate else {}
    annotations = {
        "ray.io/initializing-timeout": "45m",  # the first cluster would wait for ever where a node is missing
        NODES: json.dumps([asdict(node) for node in profile.nodes]),
        SIZES: "measured" if profile.measured else "estimate",
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name, "namespace": profile.namespace, "annotations": annotations},
        "spec": {
            "excludeHeadPodFromServeSvc": True,
            "rayClusterDeletionDelaySeconds": times.deletion_delay_s,
            "upgradeStrategy": {"type": profile.upgrade},
            "serveConfigV2": yaml.safe_dump(serve_config.cluster(profile, name), sort_keys=False),
            "rayClusterConfig": {
                "rayVersion": RAY,
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {
                    "version": "v2",
                    "idleTimeoutSeconds": profile.idle_timeout_s,
                    "resources": _resources(AUTOSCALER_CPU, "512Mi"),
                    "securityContext": CONTAINER_SECURITY,
                },
                "authOptions": {"mode": "token"},
                "gcsFaultToleranceOptions": {
                    "redisAddress": "redis:6379",
                    "redisPassword": {"valueFrom": {"secretKeyRef": {"name": REDIS_SECRET, "key": "password"}}},
                },
                "headGroupSpec": _head(profile, images, labels),
                "workerGroupSpecs": [_group(group, profile, images, labels) for group in profile.groups],
            },
        },
    }


def _head(profile: Profile, images: Images, labels: Object) -> Object:
    resources = _resources(profile.head_cpu, f"{profile.head_memory_gib}Gi")
    container = _container("ray-head", images["ingress"], resources, {**HEAD_PORTS, **PORTS}, profile)
    spec = {"securityContext": POD_SECURITY, "containers": [container]}
    template = {**labels, "spec": spec}
    return {"rayStartParams": {"dashboard-host": "0.0.0.0", **START_PARAMS}, "resources": {"CPU": "0"}, "template": template}


def _group(group: Group, profile: Profile, images: Images, labels: Object) -> Object:
    resources = _resources(group.reserved_cpu, f"{group.memory_gib}Gi", group.gpu)
    container = _container("ray-worker", images[group.name], resources, PORTS, profile)
    waits = f"--settle-s {SETTLE_S} --most-s {profile.times.drain_s} --idle-s {profile.times.idle_s}"
    drain = f'exec sonograph drain "$RAY_ADDRESS" {waits} --port {PORT}'
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", drain]}}}
    spec: Object = {
        "terminationGracePeriodSeconds": profile.times.termination_s,
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"ray.io/group": group.name}},
                "matchLabelKeys": ["ray.io/cluster"],
            }
        ],
        "containers": [container],
    }
    if group.gpu:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    mounted: dict[str, tuple[str, Object]] = {}
    if profile.weights_gib and any(weights.model in group.resources for weights in profile.weights):
        mounted["weights"] = (WEIGHTS, {"persistentVolumeClaim": {"claimName": "weights", "readOnly": True}})
        spec["initContainers"] = [wait_for_weights(profile, images[group.name])]
    if any(deployment.name == "ingress" for deployment in group.deployments):
        mounted["keys"] = (KEYS, {"secret": {"secretName": KEYS_SECRET, "optional": True}})
    if mounted:
        container["volumeMounts"] = [{"name": name, "mountPath": path, "readOnly": True} for name, (path, _) in mounted.items()]
        spec["volumes"] = [{"name": name, **volume} for name, (_, volume) in mounted.items()]
    return {
        "groupName": group.name,
        "minReplicas": group.min_pods,  # no `replicas`: the autoscaler owns it
        "maxReplicas": group.max_pods,
        "resources": group.resources,
        "labels": group.labels,
        "rayStartParams": START_PARAMS,
        "template": {**labels, "spec": spec},
    }


def _container(name: str, image: str, resources: Object, ports: dict[str, int], profile: Profile) -> Object:
    # graphs/ray.env has the timeout of one machine; here it follows the profile's graceful_shutdown_timeout_s.
    env = {**ray_env(), **RETRIES, SHUTDOWN_TIER: str(profile.times.graceful_shutdown_s), DRAIN: "0"}
    return {
        "name": name,
        "image": image,
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "resources": resources,
        "securityContext": CONTAINER_SECURITY,
    }


def _resources(cpu: float, memory: str, gpu: str = "") -> Object:
    """Memory and GPU are limits too: KubeRay reads them there. CPU has no limit, so that a start may use idle CPUs."""
    fixed = {"memory": memory, **({gpu: 1} if gpu else {})}
    return {"requests": {"cpu": f"{round(cpu * 1000)}m", **fixed}, "limits": fixed}


def ray_env() -> dict[str, str]:
    """Ray's variables, as `make serve` sets them."""
    lines = RAY_ENV.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
