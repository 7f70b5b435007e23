"""redis.yaml: the Redis that holds the state of Ray's control store."""

from kuberay.images import Images
from kuberay.manifest.objects import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Object,
    claim,
    component,
    kubernetes_object,
    metadata,
    placement,
)
from kuberay.part_values import REDIS_PORT
from kuberay.profiles import Profile
from kuberay.worker_groups import placed

REDIS_UID = 999
REDIS_MAXMEMORY_MIB, REDIS_MEMORY_MIB = 192, 512
"""Memory that Redis may fill, and its container's limit. A fork rewrites the append-only file, and memory doubles if every page changes
meanwhile: with a fifth for fragmentation 2 x 192 x 1.2 = 461 MiB. The other 51 MiB are for the process itself and for the buffers that
`maxmemory` does not count: those of the append-only file, and of replicas, of which there is none."""


def redis(profile: Profile, images: Images) -> list[Object]:
    """A Redis for the state of Ray's control store, so that the head's death costs no request; none where the values name another."""
    values = profile.values.redis
    if values.address:
        return []
    name, labels = f"{profile.service}-redis", component(profile, "redis")
    memory = {"memory": f"{REDIS_MEMORY_MIB}Mi"}
    password = {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": profile.redis_secret, "key": "password"}}}
    container = {
        "name": "redis",
        "image": images.named("redis", values.image),
        # `noeviction` refuses writes where memory is full: no key of Ray's may be dropped.
        "command": [
            "sh",
            "-c",
            'exec redis-server --requirepass "$REDIS_PASSWORD" --appendonly yes --dir /data '
            f"--maxmemory {REDIS_MAXMEMORY_MIB}mb --maxmemory-policy noeviction",
        ],
        "env": [password],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "readinessProbe": _ping("PONG"),
        # A Redis that reads a long append-only file answers LOADING: it lives. The seconds allow for a disk that stalls.
        "livenessProbe": {**_ping("PONG|LOADING"), "timeoutSeconds": 5, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "100m", **memory}, "limits": memory},
        "securityContext": {**CONTAINER_SECURITY, "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pods = placed(profile.values, values)
    pod = {
        **placement(profile, pods),
        "automountServiceAccountToken": False,
        "securityContext": {**POD_SECURITY, "runAsUser": REDIS_UID, "runAsGroup": REDIS_UID, "fsGroup": REDIS_UID},
        "containers": [container],
    }
    stateful = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": metadata(labels, pods), "spec": pod},
        "volumeClaimTemplates": [
            {"metadata": {"name": "data"}, "spec": claim("ReadWriteOnce", values.size_gib, values.storage_class)}
        ],
    }
    ports = [{"name": "redis", "port": REDIS_PORT, "targetPort": "redis"}]
    return [
        kubernetes_object(profile, "v1", "Service", name, spec={"clusterIP": "None", "selector": labels, "ports": ports}),
        kubernetes_object(profile, "apps/v1", "StatefulSet", name, spec=stateful),
    ]


def _ping(accepted: str) -> Object:
    """A probe that succeeds where Redis accepts the password and answers one of these."""
    return {"exec": {"command": ["sh", "-c", f"REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli ping | grep -qE '^({accepted})'"]}}
