"""What a profile needs around its RayService: Redis, weights, network, disruption budgets, monitoring."""

import ipaddress
import math
from collections.abc import Sequence

from graphs.core.metrics import ERRORS, QUEUE, REQUESTS, Figure
from kuberay.images import Images
from kuberay.manifest.rayservice import CONTAINER_SECURITY, HEAD_PORTS, POD_SECURITY, PORTS, Object
from kuberay.profiles import NAME, PORT, REDIS_SECRET, WEIGHTS, Profile

REDIS_IMAGE = "docker.io/library/redis:7.4.11-bookworm"
"""Redis 7.4 with the security fixes known in November 2026. Another line is a decision: 7.4 is under RSALv2 or SSPLv1, 8 also AGPLv3."""
REDIS_UID = 999
REDIS_MAXMEMORY_MIB, REDIS_MEMORY_MIB = 192, 512
"""Memory that Redis may fill, and its container's limit. A fork rewrites the append-only file, and memory doubles if every page changes
meanwhile: with a fifth for fragmentation 2 x 192 x 1.2 = 461 MiB. The other 51 MiB are for the process itself and for the buffers that
`maxmemory` does not count: those of the append-only file, and of replicas, of which there are none."""
RESOLVERS = (
    "169.254.20.10/32",  # NodeLocal DNSCache, as most install it: GKE too
    "169.254.25.10/32",  # NodeLocal DNSCache of kubespray
    "169.254.10.11/32",  # LocalDNS of AKS
    "169.254.169.254/32",  # Cloud DNS of GKE
)
"""DNS resolvers on the node itself: no selector of pods matches them. The last is also the metadata server, which hands out the
node's credentials on port 80: no port but 53 may ever be opened to it."""
OF_RAY = {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}
"""Selects the pods of every cluster that KubeRay makes here, during an upgrade both, and its Job that cleans Redis."""


def _object(version: str, kind: str, name: str, **fields: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAME}, **fields}


def redis(images: Images) -> list[Object]:
    """Holds the state of Ray's control store, so that a head that dies costs no request."""
    labels = {"app": "redis"}
    memory = {"memory": f"{REDIS_MEMORY_MIB}Mi"}
    password = {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": REDIS_SECRET, "key": "password"}}}
    container = {
        "name": "redis",
        "image": REDIS_IMAGE + (f"@{images.digests['redis']}" if "redis" in images.digests else ""),
        # `noeviction` refuses writes where memory is full: no key of Ray's may be dropped.
        "command": [
            "sh",
            "-c",
            'exec redis-server --requirepass "$REDIS_PASSWORD" --appendonly yes --dir /data '
            f"--maxmemory {REDIS_MAXMEMORY_MIB}mb --maxmemory-policy noeviction",
        ],
        "env": [password],
        "ports": [{"name": "redis", "containerPort": 6379}],
        "readinessProbe": _ping("PONG"),
        # A Redis that reads a long append-only file answers LOADING: it lives. The seconds allow for a disk that stalls.
        "livenessProbe": {**_ping("PONG|LOADING"), "timeoutSeconds": 5, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "100m", **memory}, "limits": memory},
        "securityContext": {**CONTAINER_SECURITY, "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    security = {**POD_SECURITY, "runAsUser": REDIS_UID, "runAsGroup": REDIS_UID, "fsGroup": REDIS_UID}
    pod = {"automountServiceAccountToken": False, "securityContext": security, "containers": [container]}
    volume = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    stateful = {
        "serviceName": "redis",
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": [volume],
    }
    ports = [{"name": "redis", "port": 6379, "targetPort": "redis"}]
    return [
        _object("v1", "Service", "redis", spec={"clusterIP": "None", "selector": labels, "ports": ports}),
        _object("apps/v1", "StatefulSet", "redis", spec=stateful),
    ]


def _ping(accepted: str) -> Object:
    """A probe that succeeds where Redis takes the password and answers one of these."""
    return {"exec": {"command": ["sh", "-c", f"REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli ping | grep -qE '^({accepted})'"]}}


def weights(profile: Profile, images: Images) -> list[Object]:
    """A volume that workers read, and the Job that fills it once; nothing where the images carry their weights."""
    if not profile.weights_gib:
        return []
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{profile.weights_gib}Gi"}}}
    containers = [
        {
            "name": weights.room,
            "image": images[profile.group_of(weights.room).name],
            "command": list(weights.command),
            "env": [{"name": "HF_HOME", "value": "/tmp"}],
            "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": [{"name": "weights", "mountPath": WEIGHTS}],
        }
        for weights in profile.weights
    ]
    pod = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": containers,
        "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
    }
    job = {
        "backoffLimit": 3,
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": {"app": "weights"}}, "spec": pod},
    }
    return [_object("v1", "PersistentVolumeClaim", "weights", spec=claim), _object("batch/v1", "Job", "weights", spec=job)]


def network(dns_cidrs: Sequence[str] = ()) -> list[Object]:
    """Nothing passes but what is named here. Kubernetes lets a node probe its own pods whatever a policy says.

    `dns_cidrs`: resolvers beside those that are known.
    """
    own = {"podSelector": OF_RAY}
    dns = _dns(dns_cidrs)
    operator = _namespaces("operator")
    metrics = [PORTS["metrics"], HEAD_PORTS["as-metrics"], HEAD_PORTS["dash-metrics"]]
    redis = {"podSelector": {"matchLabels": {"app": "redis"}}}
    head = {"matchLabels": {"ray.io/node-type": "head"}}
    return [
        _policy("deny", {}),
        _policy(
            "ray",
            OF_RAY,
            ingress=[
                {"from": [own]},
                {"from": [_namespaces("monitoring")], "ports": _tcp(*metrics)},
                {"from": [_namespaces("clients")], "ports": _tcp(PORT)},
            ],
            egress=[{"to": [own]}, {"to": [redis], "ports": _tcp(6379)}, *dns],
        ),
        # KubeRay submits the Serve config; the autoscaler beside the head asks the Kubernetes API for pods.
        _policy(
            "head",
            head,
            ingress=[{"from": [operator], "ports": _tcp(HEAD_PORTS["dashboard"], PORT)}],
            egress=[{"ports": _tcp(443, 6443)}],
        ),
        _policy("redis", {"matchLabels": {"app": "redis"}}, ingress=[{"from": [own], "ports": _tcp(6379)}]),
        _policy("weights", {"matchLabels": {"app": "weights"}}, egress=[*dns, {"ports": _tcp(443)}]),
    ]


def _dns(cidrs: Sequence[str]) -> list[Object]:
    """Rules that let DNS pass: to the pods that serve it, and to resolvers that are no pods of the cluster's network."""
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in dict.fromkeys((*RESOLVERS, *cidrs))]
    return [
        {"to": [_namespace("kube-system"), *blocks], "ports": _both(53)},
        {"to": [_namespace("openshift-dns")], "ports": _both(5353)},  # a policy sees the port of the pod, not the Service's 53
    ]


def resolver(text: str) -> str:
    """The CIDR of a DNS resolver, from an address or a range. Raises ValueError with what would be accepted."""
    try:
        given = ipaddress.ip_interface(text)
    except ValueError as error:
        sentence = f"{text!r} is no network: give an address such as 10.96.0.10, or a range such as 10.96.0.0/28"
        raise ValueError(sentence) from error
    if given.ip != given.network.network_address:
        raise ValueError(f"{text} has host bits set: give {given.network} for the range, or {given.ip} for this address alone")
    return str(given.network)


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _namespaces(role: str) -> Object:
    """Those with the label `sonograph/<role>`, which whoever installs it sets (kuberay/README.md)."""
    return {"namespaceSelector": {"matchExpressions": [{"key": f"sonograph/{role}", "operator": "Exists"}]}}


def _tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _both(port: int) -> list[Object]:
    """UDP, and TCP for answers that are too long for it."""
    return [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")]


def _policy(name: str, pods: Object, ingress: list[Object] | None = None, egress: list[Object] | None = None) -> Object:
    rules = {"ingress": ingress or [], "egress": egress or []}
    spec = {"podSelector": pods, "policyTypes": ["Ingress", "Egress"], **{key: value for key, value in rules.items() if value}}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)


def disruption(profile: Profile) -> list[Object]:
    """One for each group that keeps more than one pod; of one alone it would only forbid to empty its node.

    As a number of pods: Kubernetes knows no shares of what is neither a Deployment nor has a scale of its own.
    """
    return [
        _object(
            "policy/v1",
            "PodDisruptionBudget",
            group.name,
            spec={"minAvailable": group.min_pods - 1, "selector": {"matchLabels": {"ray.io/group": group.name}}},
        )
        for group in profile.groups
        if group.min_pods > 1
    ]


def monitoring(profile: Profile) -> list[Object]:
    ports = ("metrics", "as-metrics", "dash-metrics")
    monitor = {"selector": OF_RAY, "podMetricsEndpoints": [{"port": port} for port in ports]}
    rules = {"groups": [{"name": NAME, "rules": alerts(profile)}]}
    return [
        _object("monitoring.coreos.com/v1", "PodMonitor", NAME, spec=monitor),
        _object("monitoring.coreos.com/v1", "PrometheusRule", NAME, spec=rules),
    ]


def alerts(profile: Profile) -> list[Object]:
    waits_s = math.floor(profile.times.deadline_s / 4)
    return [
        _alert(
            "SonographErrors",
            f"{_rate(ERRORS, 'code=~"internal|model_unavailable|deadline_exceeded"')} > 0.05 * {_rate(REQUESTS, 'stage="ingress"')}",
            "critical",
            "More than 1 request in 20 fails, which is none of its client's doing.",
        ),
        _alert(
            "SonographRoomUnavailable",
            f'sum by (stage) (rate({ERRORS.exported}{{code="model_unavailable"}}[5m])) > 0',
            "critical",
            "No replica of {{ $labels.stage }} serves: see GET /readyz, and whether Kubernetes has a node for its pod.",
        ),
        _alert(
            "SonographQueue",
            f"histogram_quantile(0.9, sum by (stage, le) (rate({QUEUE.exported}_bucket[5m]))) > {waits_s}",
            "warning",
            f"1 request in 10 waits more than {waits_s} s for {{{{ $labels.stage }}}}: it needs more replicas.",
        ),
    ]


def _rate(figure: Figure, labels: str) -> str:
    return f"sum(rate({figure.exported}{{{labels}}}[5m]))"


def _alert(name: str, expression: str, severity: str, summary: str) -> Object:
    return {
        "alert": name,
        "expr": expression,
        "for": "5m",
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }
