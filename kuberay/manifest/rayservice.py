"""rayservice.yaml: the head, which takes no work, and a worker group for each image."""

import json
from pathlib import Path

import yaml

from kuberay import serve_config
from kuberay.images import Images
from kuberay.manifest.objects import (
    CLUSTER,
    CONTAINER_SECURITY,
    HEAD_PORTS,
    NO_GPUS,
    POD_SECURITY,
    PORTS,
    REVISION,
    Object,
    instance,
    kubernetes_object,
    metadata,
    of_group,
    placement,
)
from kuberay.manifest.weights import volume_name, wait_for_weights
from kuberay.part_values import REDIS_PORT, UpgradeValues
from kuberay.pod_values import Gpu
from kuberay.profiles import AUTOSCALER_CPU, KEYS, PORT, SETTLE_S, WEIGHTS, Profile
from kuberay.versions import RAY
from kuberay.worker_groups import INGRESS, NO_GPU, Group, placed

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
REDIS_CERTIFICATE = "/etc/redis"
"""Folder of the authority of Redis' certificate, in the head's pod, which alone asks Redis."""
READINESS = {
    "httpGet": {"path": "/-/healthz", "port": "serve"},
    "periodSeconds": 2,
    "timeoutSeconds": 5,
    "failureThreshold": 3,
}
"""Of a worker: Serve's proxy answers. KubeRay's own starts a shell and two clients each time, which takes more than its 2 s on a busy
node, and one failure takes the pod out of the Service: where it is the only one, clients find nobody."""
SHUTDOWN_TIER = "RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S"
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""Seconds for which `ray start --block` drains its node after SIGTERM: none, since a worker has drained in its preStop hook by then,
and the head has no replicas. With the head gone, Ray's drain would wait for its whole limit."""


def ray_service(profile: Profile, images: Images, candidate: bool = False) -> Object:
    """`candidate`: the second RayService. Both share Redis, the volume of the weights and the API keys."""
    values, times = profile.values, profile.times
    name = profile.candidate if candidate else profile.service
    labels = {**instance(profile), **({REVISION: "candidate"} if candidate else {})}
    service = kubernetes_object(profile, "ray.io/v1", "RayService", name)
    service["metadata"]["annotations"] = {
        "ray.io/initializing-timeout": "45m",  # the first cluster would wait forever where a node is missing
        NODES: json.dumps([node.model_dump() for node in values.nodes]),
        SIZES: "measured" if values.measured else "estimate",
    }
    annotations = values.service.annotations
    service["spec"] = {
        "excludeHeadPodFromServeSvc": True,
        "rayClusterDeletionDelaySeconds": times.deletion_delay_s,
        "upgradeStrategy": _upgrade(values.upgrade),
        **({"serveService": {"metadata": {"annotations": annotations}}} if annotations else {}),
        "serveConfigV2": yaml.safe_dump(serve_config.cluster(profile, name), sort_keys=False),
        "rayClusterConfig": {
            "rayVersion": RAY,
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "version": "v2",
                "idleTimeoutSeconds": values.idle_timeout_s,
                "resources": _resources(AUTOSCALER_CPU, 0.5),
                "securityContext": CONTAINER_SECURITY,
            },
            "authOptions": {"mode": "token"},
            "gcsFaultToleranceOptions": _fault_tolerance(profile),
            "headGroupSpec": _head(profile, images, labels),
            "workerGroupSpecs": [_group(group, profile, images, labels) for group in profile.groups],
        },
    }
    return service


def _upgrade(values: UpgradeValues) -> Object:
    if values.strategy != "NewClusterWithIncrementalUpgrade":
        return {"type": values.strategy}
    options = {
        "gatewayClassName": values.gateway_class,
        "stepSizePercent": values.step_size_percent,
        "intervalSeconds": values.interval_s,
        "maxSurgePercent": values.max_surge_percent,
    }
    return {"type": values.strategy, "clusterUpgradeOptions": options}


def _fault_tolerance(profile: Profile) -> Object:
    redis = profile.values.redis
    password = {"valueFrom": {"secretKeyRef": {"name": profile.redis_secret, "key": "password"}}}
    return {
        "redisAddress": redis.address or f"{profile.service}-redis:{REDIS_PORT}",
        **({"redisUsername": {"value": redis.username}} if redis.username else {}),
        "redisPassword": password,
    }


def _head(profile: Profile, images: Images, labels: dict[str, str]) -> Object:
    values = profile.values
    resources = _resources(values.head.cpu_request, values.head.memory_gib)
    container = _container("ray-head", images[INGRESS.name], resources, {**HEAD_PORTS, **PORTS}, profile)
    pods = placed(values, values.head)
    spec = {**placement(profile, pods), "securityContext": POD_SECURITY, "containers": [container]}
    if values.redis.certificate:
        container["env"].append({"name": "RAY_REDIS_CA_CERT", "value": f"{REDIS_CERTIFICATE}/ca.crt"})
        items = [{"key": "ca.crt", "path": "ca.crt"}]
        _mount(spec, {"redis-certificate": (REDIS_CERTIFICATE, {"secret": {"secretName": profile.redis_secret, "items": items}})})
    template = {"metadata": metadata(labels, pods), "spec": spec}
    return {"rayStartParams": {"dashboard-host": "0.0.0.0", **START_PARAMS}, "resources": {"CPU": "0"}, "template": template}


def _group(group: Group, profile: Profile, images: Images, labels: dict[str, str]) -> Object:
    resources = _resources(group.reserved_cpu, group.memory_gib, group.gpu)
    container = _container("ray-worker", images[group.name], resources, PORTS, profile)
    waits = f"--settle-s {SETTLE_S} --most-s {profile.times.drain_s} --idle-s {profile.times.idle_s}"
    drain = f'exec sonograph drain "$RAY_ADDRESS" {waits} --port {PORT}'
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", drain]}}}
    container["readinessProbe"] = READINESS
    spec: Object = {
        **placement(profile, group.pods, bool(group.gpu.name)),
        "terminationGracePeriodSeconds": profile.times.termination_s,
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "topologySpreadConstraints": [
            _spread("kubernetes.io/hostname", "ScheduleAnyway", group, profile),
            *([_spread("topology.kubernetes.io/zone", group.zone_spread, group, profile)] if group.zone_spread else ()),
        ],
        "containers": [container],
    }
    mounted: dict[str, tuple[str, Object]] = {}
    models = {spec.name for spec, _ in profile.models}
    if profile.has_weights and any(one.name in (profile.values.weights.fetch or models) for one in group.deployments):
        mounted["weights"] = (WEIGHTS, {"persistentVolumeClaim": {"claimName": volume_name(profile), "readOnly": True}})
        if wait := wait_for_weights(profile, images[group.name]):
            spec["initContainers"] = wait
    if any(deployment.name == INGRESS.name for deployment in group.deployments):
        mounted["keys"] = (KEYS, {"secret": {"secretName": profile.keys_secret, "optional": True}})
    _mount(spec, mounted)
    return {
        "groupName": group.name,
        "minReplicas": group.min_pods,  # no `replicas`: the autoscaler owns it
        "maxReplicas": group.max_pods,
        "resources": group.resources,
        "labels": group.labels,
        "rayStartParams": START_PARAMS,
        "template": {"metadata": metadata(labels, group.pods), "spec": spec},
    }


def _spread(key: str, unsatisfiable: str, group: Group, profile: Profile) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": unsatisfiable,
        "labelSelector": of_group(profile, group.name),
        "matchLabelKeys": [CLUSTER],
    }


def _mount(spec: Object, volumes: dict[str, tuple[str, Object]]) -> None:
    """Mount volumes, each with its path, in Ray's container."""
    if volumes:
        container = spec["containers"][0]
        container["volumeMounts"] = [{"name": name, "mountPath": path, "readOnly": True} for name, (path, _) in volumes.items()]
        spec["volumes"] = [{"name": name, **volume} for name, (_, volume) in volumes.items()]


def _container(name: str, image: str, resources: Object, ports: dict[str, int], profile: Profile) -> Object:
    # graphs/ray.env has the timeout of one machine; here it follows the profile's graceful_shutdown_timeout_s.
    env = {**ray_env(), **RETRIES, SHUTDOWN_TIER: str(profile.times.graceful_shutdown_s), DRAIN: "0"}
    asks_for_gpu = set(resources["limits"]) != {"memory"}
    return {
        "name": name,
        "image": image,
        "env": [*({"name": key, "value": value} for key, value in env.items()), *(() if asks_for_gpu else (NO_GPUS,))],
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "resources": resources,
        "securityContext": CONTAINER_SECURITY,
    }


def _resources(cpu: float, memory_gib: float, gpu: Gpu = NO_GPU) -> Object:
    """Memory and GPU are limits too: KubeRay reads them there. CPU has no limit, so that a start may use idle CPUs."""
    memory = f"{memory_gib}Gi" if memory_gib == int(memory_gib) else f"{round(memory_gib * 1024)}Mi"
    fixed = {"memory": memory, **({gpu.name: gpu.count} if gpu.name else {})}
    return {"requests": {"cpu": f"{round(cpu * 1000)}m", **fixed}, "limits": fixed}


def ray_env() -> dict[str, str]:
    """Ray's variables, as `make serve` sets them."""
    lines = RAY_ENV.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
