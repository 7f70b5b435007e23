"""Mistakes in templates of pods: volumes, containers, probes, amounts, what a namespace admits, and the nodes."""

from typing import Any

from kuberay.doctor.finding import NOTE, WARNING
from kuberay.profiles import ONE_GPU, SMALL_GPUS
from testing.manifests import Manifests
from tests.kuberay.mistakes import Mistake

Object = dict[str, Any]
NAMESPACE = "sonograph"
AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"


def of_kind(m: Manifests, kind: str) -> Object:
    return next(one for one in m.beside if one["kind"] == kind)


def pod(m: Manifests, kind: str) -> Object:
    """The pod's specification of the first object of this kind beside the RayService."""
    found: Object = of_kind(m, kind)["spec"]["template"]["spec"]
    return found


def add(m: Manifests, version: str, kind: str, name: str, **fields: Any) -> Object:
    made = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **fields}
    m.beside.append(made)
    return made


def workload(m: Manifests, kind: str, cpu: str = "100m", **spec: Any) -> Object:
    """Add a Deployment or DaemonSet of one small container, and return its container."""
    container: Object = {"name": "own", "image": "example.com/own:1@sha256:" + "0" * 64, "resources": {"requests": {"cpu": cpu}}}
    labels = {"app": "own"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    add(m, "apps/v1", kind, "own", spec={"selector": {"matchLabels": labels}, "template": template, **spec})
    return container


def sidecar(m: Manifests, **fields: Any) -> Object:
    """Add a second container to the ingress' pods."""
    made = {"name": "proxy", "image": "example.com/proxy:1@sha256:" + "0" * 64, **fields}
    m.pod("ingress")["containers"].append(made)
    return made


def volume(m: Manifests, group: str, path: str, source: Object) -> Object:
    """Mount a further volume in Ray's container."""
    made = {"name": "further", **source}
    m.pod(group).setdefault("volumes", []).append(made)
    m.container(group).setdefault("volumeMounts", []).append({"name": "further", "mountPath": path})
    return made


def shm(m: Manifests, size: str, group: str = "whisper") -> Object:
    return volume(m, group, "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": size}})


def level(m: Manifests, enforced: str, name: str = NAMESPACE, mode: str = "enforce") -> Object:
    made: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    made["metadata"]["labels"] = {f"pod-security.kubernetes.io/{mode}": enforced}
    m.beside.append(made)
    return made


def limit_range(m: Manifests, **item: Any) -> Object:
    return add(m, "v1", "LimitRange", "own", spec={"limits": [{"type": "Container", **item}]})


def quota(m: Manifests, **hard: str) -> Object:
    return add(m, "v1", "ResourceQuota", "own", spec={"hard": {name.replace("_", "."): value for name, value in hard.items()}})


def node_affinity(m: Manifests, key: str, values: list[str]) -> Object:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": values}]}
    return {"nodeAffinity": {AFFINITY: {"nodeSelectorTerms": [term]}}}


def cron_job(m: Manifests) -> Object:
    spec: Object = {"containers": [{"name": "own", "image": "example.com/own:1@sha256:" + "0" * 64}]}
    add(m, "batch/v1", "CronJob", "own", spec={"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": spec}}}})
    return spec


VOLUMES = [
    Mistake(
        "a mount without its volume",
        "SG410",
        lambda m: m.pod("whisper").pop("volumes"),
        "the pod has no volume weights, and is refused",
        also=("SG209",),
        profile=SMALL_GPUS,
    ),
    Mistake(
        "a mount of a volume misspelt",
        "SG410",
        lambda m: m.container("ingress")["volumeMounts"][0].update(name="key"),
        "did you mean keys?",
        cluster="pod: Not found",
    ),
    Mistake(
        "Redis' mount without a claim",
        "SG410",
        lambda m: of_kind(m, "StatefulSet")["spec"].pop("volumeClaimTemplates"),
        "no volume data, and is refused",
        cluster='kubectl: Not found: "data"',
    ),
    Mistake(
        "a sidecar's mount without its volume",
        "SG410",
        lambda m: sidecar(m, volumeMounts=[{"name": "none", "mountPath": "/x"}]),
        "no volume none, and is refused",
    ),
    Mistake(
        "the autoscaler's mount without its volume",
        "SG410",
        lambda m: m.cluster["autoscalerOptions"].update(volumeMounts=[{"name": "none", "mountPath": "/x"}]),
        "no volume none",
    ),
    Mistake(
        "a volume that nothing mounts",
        "SG411",
        lambda m: m.pod("ingress")["volumes"].append({"name": "free", "emptyDir": {}}),
        "no container mounts free",
        NOTE,
    ),
    Mistake(
        "two mounts of one path", "SG412", lambda m: volume(m, "ingress", "/etc/sonograph", {"emptyDir": {}}), "mounted twice"
    ),
    Mistake(
        "a mount at a relative path",
        "SG412",
        lambda m: volume(m, "ingress", "data", {"emptyDir": {}}),
        "mounted at /data",
        WARNING,
    ),
    Mistake("a mount over the image", "SG412", lambda m: volume(m, "ingress", "/", {"emptyDir": {}}), "hide the image's files"),
    Mistake(
        "a subPath from the root",
        "SG412",
        lambda m: m.container("ingress")["volumeMounts"][0].update(subPath="/keys"),
        "no path below the volume",
    ),
    Mistake(
        "a subPath out of the volume",
        "SG412",
        lambda m: m.container("ingress")["volumeMounts"][0].update(subPath="a/../../b"),
        "no path below the volume",
    ),
    Mistake(
        "a volume of two sources", "SG413", lambda m: m.pod("ingress")["volumes"][0].update(emptyDir={}), "emptyDir and secret"
    ),
    Mistake("a volume of no source", "SG413", lambda m: m.pod("ingress")["volumes"][0].pop("secret"), "lost with the pod", NOTE),
    Mistake("a small /dev/shm", "SG414", lambda m: shm(m, "64Mi"), "it is 64 MiB, and Ray's object store wants", WARNING),
    Mistake(
        "a /dev/shm below the store that is asked for",
        "SG414",
        lambda m: (shm(m, "1Gi"), m.group("whisper")["rayStartParams"].update({"object-store-memory": "2000000000"})),
        "wants 1907 MiB",
        WARNING,
    ),
    Mistake("a /dev/shm above the memory", "SG414", lambda m: shm(m, "64Gi"), "killed before /dev/shm is full", WARNING),
    Mistake("a /dev/shm on a disk", "SG414", lambda m: volume(m, "whisper", "/dev/shm", {"emptyDir": {}}), "on a disk", WARNING),
    Mistake(
        "a root that Ray cannot write",
        "SG415",
        lambda m: m.container("whisper")["securityContext"].update(readOnlyRootFilesystem=True),
        "Ray does not start",
    ),
    Mistake(
        "a head's root that cannot be written",
        "SG415",
        lambda m: m.container("head")["securityContext"].update(readOnlyRootFilesystem=True),
        "mount an emptyDir at /tmp",
        WARNING,
    ),
    Mistake(
        "an emptyDir of less than a byte",
        "SG416",
        lambda m: volume(m, "ingress", "/scratch", {"emptyDir": {"sizeLimit": "512m"}}),
        "evicted as soon as it writes",
    ),
    Mistake(
        "Redis' claim of bytes",
        "SG416",
        lambda m: of_kind(m, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"].update(
            storage="10"
        ),
        "10 is 10 bytes",
    ),
    Mistake(
        "the weights' claim of thousandths",
        "SG416",
        lambda m: of_kind(m, "PersistentVolumeClaim")["spec"]["resources"]["requests"].update(storage="1024m"),
        "holds no file",
    ),
]
CONTAINERS = [
    Mistake(
        "two containers of one name",
        "SG420",
        lambda m: sidecar(m, name="ray-worker"),
        "two containers of the pod are named ray-worker",
    ),
    Mistake(
        "a container with the autoscaler's name",
        "SG420",
        lambda m: m.head["template"]["spec"]["containers"].append(
            {"name": "autoscaler", "image": "example.com/a:1@sha256:" + "0" * 64}
        ),
        "named autoscaler",
    ),
    Mistake(
        "a start's container with another's name",
        "SG420",
        lambda m: m.pod("whisper")["initContainers"][0].update(name="ray-worker"),
        "named ray-worker",
    ),
    Mistake(
        "two volumes of one name",
        "SG420",
        lambda m: m.pod("ingress")["volumes"].append({"name": "keys", "emptyDir": {}}),
        "two volumes of the pod are named keys",
    ),
    Mistake(
        "two variables of one name",
        "SG420",
        lambda m: m.container("whisper")["env"].append({"name": "RAY_USAGE_STATS_ENABLED", "value": "1"}),
        "the last one counts",
        WARNING,
    ),
    Mistake(
        "two ports of one name",
        "SG420",
        lambda m: m.container("ingress")["ports"].append({"name": "serve", "containerPort": 9000}),
        "two ports of the container",
    ),
    Mistake(
        "a sidecar's port of Ray's name",
        "SG420",
        lambda m: sidecar(m, ports=[{"name": "serve", "containerPort": 9000}]),
        "takes either",
        WARNING,
    ),
    Mistake(
        "a port with a long name",
        "SG421",
        lambda m: m.container("ingress")["ports"].append({"name": "a-name-that-is-long", "containerPort": 9000}),
        "at most 15",
        cluster="pod: no more than 15",
    ),
    Mistake(
        "a port with an underscore",
        "SG421",
        lambda m: sidecar(m, ports=[{"name": "my_port", "containerPort": 9000}]),
        "my_port is no name",
    ),
    Mistake(
        "a sidecar on Serve's port",
        "SG422",
        lambda m: sidecar(m, ports=[{"containerPort": 8000}]),
        "port of the container ray-worker too",
    ),
    Mistake("a sidecar on Ray's agent's port", "SG422", lambda m: sidecar(m, ports=[{"containerPort": 52365}]), "Ray's agent"),
    Mistake(
        "a sidecar among the workers' ports",
        "SG422",
        lambda m: sidecar(m, ports=[{"containerPort": 15000}]),
        "both may want it",
        WARNING,
    ),
    Mistake(
        "a sidecar of the head on the control store's port",
        "SG422",
        lambda m: m.head["template"]["spec"]["containers"].append(
            {"name": "redis", "image": "example.com/redis:7@sha256:" + "0" * 64, "ports": [{"containerPort": 6379}]}
        ),
        "port of the container ray-head too",
    ),
    Mistake(
        "a port twice",
        "SG422",
        lambda m: m.container("ingress")["ports"].append({"name": "web", "containerPort": 8000}),
        "twice in the container",
        WARNING,
    ),
    Mistake(
        "Ray on the node's network",
        "SG422",
        lambda m: m.pod("whisper").update(hostNetwork=True),
        "a node could have one only",
        WARNING,
    ),
    Mistake(
        "a variable of a value and a source",
        "SG423",
        lambda m: m.container("whisper")["env"].append(
            {"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        ),
        "takes one only",
        cluster="pod: may not be specified when `value` is not empty",
    ),
    Mistake(
        "a variable of two sources",
        "SG423",
        lambda m: m.container("whisper")["env"].append(
            {
                "name": "A",
                "valueFrom": {
                    "fieldRef": {"fieldPath": "status.podIP"},
                    "secretKeyRef": {"name": "sonograph-redis", "key": "password"},
                },
            }
        ),
        "fieldRef and secretKeyRef",
    ),
    Mistake(
        "a variable's name with a sign",
        "SG423",
        lambda m: m.container("whisper")["env"].append({"name": "A=B", "value": "c"}),
        "no name of a variable",
    ),
    Mistake(
        "a variable that refers to nothing",
        "SG424",
        lambda m: m.container("whisper")["env"].append({"name": "A", "value": "$(NOTHING)/x"}),
        "keeps the text $(NOTHING)",
        WARNING,
    ),
    Mistake(
        "a variable that refers to a later one",
        "SG424",
        lambda m: m.container("whisper")["env"].extend([{"name": "A", "value": "$(B)"}, {"name": "B", "value": "c"}]),
        "B is defined below it",
        WARNING,
    ),
    Mistake(
        "workers without tokens",
        "SG425",
        lambda m: m.container("whisper")["env"].append({"name": "RAY_AUTH_MODE", "value": "disabled"}),
        "cannot join",
    ),
    Mistake("a head without tokens", "SG425", lambda m: m.add_env("RAY_AUTH_MODE", "disabled"), "cannot join"),
    Mistake(
        "an autoscaler without tokens",
        "SG425",
        lambda m: m.cluster["autoscalerOptions"].update(env=[{"name": "RAY_AUTH_MODE", "value": "disabled"}]),
        "the autoscaler cannot join",
    ),
    Mistake(
        "workers with another token",
        "SG425",
        lambda m: m.container("whisper")["env"].append({"name": "RAY_AUTH_TOKEN", "value": "x"}),
        "takes the place of the token",
        WARNING,
    ),
    Mistake(
        "workers with tokens where none are asked for",
        "SG425",
        lambda m: (
            m.cluster["authOptions"].update(mode="disabled"),
            m.container("whisper")["env"].append({"name": "RAY_AUTH_MODE", "value": "token"}),
        ),
        "says no token",
    ),
    Mistake(
        "an image in capitals",
        "SG426",
        lambda m: pod(m, "StatefulSet")["containers"][0].update(image="docker.io/Library/Redis:7"),
        "only small letters",
    ),
    Mistake(
        "an image with a space",
        "SG426",
        lambda m: pod(m, "StatefulSet")["containers"][0].update(image="redis: 7"),
        "InvalidImageName",
    ),
    Mistake(
        "an image left open",
        "SG426",
        lambda m: pod(m, "StatefulSet")["containers"][0].update(image="${REDIS_IMAGE}"),
        "InvalidImageName",
    ),
    Mistake("no image", "SG426", lambda m: pod(m, "StatefulSet")["containers"][0].pop("image"), "has no image"),
    Mistake(
        "the image that was pushed last",
        "SG426",
        lambda m: pod(m, "StatefulSet")["containers"][0].update(image="redis:latest"),
        "pushed last",
        WARNING,
    ),
    Mistake(
        "an image that is never pulled",
        "SG426",
        lambda m: m.container("whisper").update(imagePullPolicy="Never"),
        "ErrImageNeverPull",
        WARNING,
    ),
]
PROBES = [
    Mistake(
        "a probe that asks in two ways",
        "SG427",
        lambda m: m.container("ingress")["readinessProbe"].update(tcpSocket={"port": 8000}),
        "asks in one way",
    ),
    Mistake(
        "a probe that does not ask",
        "SG427",
        lambda m: m.container("ingress")["readinessProbe"].pop("httpGet"),
        "says not how to ask",
    ),
    Mistake(
        "a liveness probe of two successes",
        "SG427",
        lambda m: pod(m, "StatefulSet")["containers"][0]["livenessProbe"].update(successThreshold=2),
        "has to be 1",
    ),
    Mistake(
        "a probe of a port by another name",
        "SG428",
        lambda m: m.container("ingress")["readinessProbe"]["httpGet"].update(port="http"),
        "no port http, so the pod is never ready",
    ),
    Mistake(
        "a probe of a port by another number",
        "SG428",
        lambda m: m.container("whisper")["readinessProbe"]["httpGet"].update(port=8001),
        "no container of the pod has the port 8001",
    ),
    Mistake(
        "a worker's probe of the dashboard",
        "SG428",
        lambda m: m.container("whisper").update(livenessProbe={"tcpSocket": {"port": 8265}}),
        "ended again and again",
    ),
    Mistake(
        "a probe of a path that is not there",
        "SG428",
        lambda m: m.container("ingress")["readinessProbe"]["httpGet"].update(path="/health"),
        "nothing answers /health",
    ),
    Mistake(
        "a probe of the proxy misspelt",
        "SG428",
        lambda m: m.container("ingress")["readinessProbe"]["httpGet"].update(path="/-/health"),
        "did you mean /-/healthz?",
    ),
    Mistake(
        "a probe with TLS",
        "SG428",
        lambda m: m.container("ingress")["readinessProbe"]["httpGet"].update(scheme="HTTPS"),
        "plain HTTP",
    ),
    Mistake(
        "Redis' probe of another port",
        "SG428",
        lambda m: pod(m, "StatefulSet")["containers"][0].update(readinessProbe={"tcpSocket": {"port": 6380}}),
        "the port 6380",
        WARNING,
    ),
    Mistake(
        "an impatient liveness probe",
        "SG429",
        lambda m: m.container("whisper").update(
            livenessProbe={"tcpSocket": {"port": 52365}, "periodSeconds": 1, "failureThreshold": 2}
        ),
        "only busy",
        WARNING,
    ),
]
AMOUNTS = [
    Mistake(
        "a limit of CPU below the request",
        "SG430",
        lambda m: m.container("whisper")["resources"]["limits"].update(cpu="500m"),
        "the limit is 500m",
    ),
    Mistake(
        "Redis' limit below its request",
        "SG430",
        lambda m: pod(m, "StatefulSet")["containers"][0]["resources"]["limits"].update(memory="256Mi"),
        "512Mi is requested",
        cluster="kubectl: must be less than or equal to memory limit",
    ),
    Mistake(
        "the autoscaler's limit below its request",
        "SG430",
        lambda m: m.cluster["autoscalerOptions"]["resources"]["limits"].update(cpu="100m"),
        "the limit is 100m",
    ),
    Mistake(
        "memory in thousandths",
        "SG431",
        lambda m: m.container("whisper")["resources"].update(
            requests={"cpu": "1250m", "memory": "3072m"}, limits={"memory": "3072m"}
        ),
        "thousandth",
    ),
    Mistake(
        "memory in bytes",
        "SG431",
        lambda m: pod(m, "StatefulSet")["containers"][0]["resources"].update(
            limits={"memory": "512"}, requests={"cpu": "100m", "memory": "512"}
        ),
        "512 is 512 bytes",
    ),
    Mistake(
        "memory that Ray does not start with",
        "SG431",
        lambda m: m.container("whisper")["resources"].update(
            requests={"cpu": "1250m", "memory": "3Mi"}, limits={"memory": "3Mi"}
        ),
        "bytes",
    ),
    Mistake(
        "less memory than Ray's own",
        "SG431",
        lambda m: m.container("whisper")["resources"].update(
            requests={"cpu": "1250m", "memory": "128Mi"}, limits={"memory": "128Mi"}
        ),
        "Ray's own processes",
    ),
    Mistake(
        "CPUs in gibibytes",
        "SG431",
        lambda m: pod(m, "StatefulSet")["containers"][0]["resources"]["requests"].update(cpu="4Gi"),
        "an amount of memory",
        also=("SG406",),
    ),
    Mistake(
        "CPUs without their m",
        "SG431",
        lambda m: m.requests("whisper").update(cpu="1250"),
        "did you mean 1250m?",
        also=("SG406",),
    ),
    Mistake(
        "a disk of bytes",
        "SG431",
        lambda m: m.container("whisper")["resources"]["limits"].update({"ephemeral-storage": "10"}),
        "10 bytes",
    ),
    Mistake(
        "a resource in capitals",
        "SG432",
        lambda m: m.container("whisper")["resources"]["limits"].update(CPU="2"),
        "no resource CPU",
    ),
    Mistake(
        "a resource misspelt",
        "SG432",
        lambda m: pod(m, "StatefulSet")["containers"][0]["resources"]["limits"].update(memmory="2Gi"),
        "did you mean memory?",
    ),
    Mistake("a GPU without its maker", "SG432", lambda m: sidecar(m, resources={"limits": {"gpu": "1"}}), "no resource gpu"),
    Mistake(
        "half a GPU",
        "SG433",
        lambda m: m.container("whisper")["resources"].update(
            requests={"cpu": "1", "memory": "3Gi", "nvidia.com/gpu": "0.5"}, limits={"memory": "3Gi", "nvidia.com/gpu": "0.5"}
        ),
        "whole devices only",
        profile=SMALL_GPUS,
        also=("SG402", "SG404", "SG305"),
    ),
    Mistake(
        "a sidecar's GPU without limit",
        "SG433",
        lambda m: sidecar(m, resources={"requests": {"nvidia.com/gpu": "1"}}),
        "the limit has to be 1 too",
        also=("SG406",),
    ),
    Mistake("a fraction as a number", "SG434", lambda m: m.requests("whisper").update(cpu=1.25), 'write "1.25"'),
]
ADMISSION = [
    Mistake(
        "root by number",
        "SG440",
        lambda m: m.pod("whisper")["securityContext"].update(runAsUser=0),
        "CreateContainerConfigError",
        cluster="pod: runAsUser=0",
    ),
    Mistake(
        "root in a container",
        "SG440",
        lambda m: m.container("whisper")["securityContext"].update(runAsUser=0),
        "CreateContainerConfigError",
    ),
    Mistake(
        "Redis as root",
        "SG440",
        lambda m: pod(m, "StatefulSet")["containers"][0]["securityContext"].update(runAsUser=0),
        "the container redis never starts",
    ),
    Mistake(
        "privileged without escalation",
        "SG441",
        lambda m: m.container("whisper")["securityContext"].update(privileged=True),
        "allowPrivilegeEscalation is false",
    ),
    Mistake(
        "a profile without its name",
        "SG441",
        lambda m: m.pod("whisper")["securityContext"].update(seccompProfile={"type": "Localhost"}),
        "belong together",
    ),
    Mistake(
        "escalation where it is restricted",
        "SG442",
        lambda m: (level(m, "restricted"), m.container("whisper").pop("securityContext")),
        "is refused in sonograph, which enforces restricted",
    ),
    Mistake(
        "no seccomp where it is restricted",
        "SG442",
        lambda m: (level(m, "restricted"), pod(m, "StatefulSet")["securityContext"].pop("seccompProfile")),
        "has no seccompProfile",
    ),
    Mistake(
        "root where it is restricted",
        "SG442",
        lambda m: (level(m, "restricted"), m.pod("whisper").pop("securityContext")),
        "runAsNonRoot is not true",
    ),
    Mistake(
        "a sidecar where it is restricted",
        "SG442",
        lambda m: (level(m, "restricted"), sidecar(m)),
        "ALL is not dropped in the container proxy",
    ),
    Mistake(
        "the autoscaler where it is restricted",
        "SG442",
        lambda m: (level(m, "restricted"), m.cluster["autoscalerOptions"].pop("securityContext")),
        "in the container autoscaler",
    ),
    Mistake(
        "a volume of NFS where it is restricted",
        "SG442",
        lambda m: (level(m, "restricted"), volume(m, "whisper", "/x", {"nfs": {"server": "s", "path": "/"}})),
        "of the kind nfs",
    ),
    Mistake(
        "the node's path where it is baseline",
        "SG442",
        lambda m: (level(m, "baseline"), volume(m, "whisper", "/x", {"hostPath": {"path": "/data"}})),
        "a path of the node",
    ),
    Mistake(
        "the node's port where it is baseline",
        "SG442",
        lambda m: (level(m, "baseline"), m.container("ingress")["ports"][0].update(hostPort=8000)),
        "8000 is a port of the node",
    ),
    Mistake(
        "the node's processes where it is baseline",
        "SG442",
        lambda m: (level(m, "baseline"), m.pod("whisper").update(hostPID=True)),
        "hostPID is true",
    ),
    Mistake(
        "a capability where it is baseline",
        "SG442",
        lambda m: (level(m, "baseline"), m.container("whisper")["securityContext"]["capabilities"].update(add=["SYS_PTRACE"])),
        "SYS_PTRACE is added",
    ),
    Mistake("more than the most of a range", "SG443", lambda m: limit_range(m, max={"memory": "2Gi"}), "the LimitRange's most"),
    Mistake("a range's limit below a request", "SG443", lambda m: limit_range(m, default={"cpu": "500m"}), "sets the limit"),
    Mistake("less than the least of a range", "SG443", lambda m: limit_range(m, min={"memory": "1Gi"}), "the LimitRange's least"),
    Mistake("a start above the quota", "SG444", lambda m: quota(m, requests_memory="8Gi"), "the last do not start"),
    Mistake("more pods than the quota has", "SG444", lambda m: quota(m, pods="3"), "the pods of the start take"),
    Mistake("an upgrade above the quota", "SG444", lambda m: quota(m, pods="8"), "a second cluster", WARNING),
    Mistake(
        "a quota of limits that nobody states", "SG444", lambda m: quota(m, limits_cpu="64"), "states no cpu among its limits"
    ),
]
WORKLOADS = [
    Mistake(
        "a Job that restarts always",
        "SG450",
        lambda m: pod(m, "Job").pop("restartPolicy"),
        "takes Never or OnFailure",
        cluster='kubectl: Required value: valid values: "OnFailure", "Never"',
    ),
    Mistake("a CronJob that restarts always", "SG450", lambda m: cron_job(m), "a CronJob takes Never or OnFailure"),
    Mistake(
        "Redis that never restarts",
        "SG450",
        lambda m: pod(m, "StatefulSet").update(restartPolicy="Never"),
        "takes Always",
        cluster='kubectl: Unsupported value: "Never"',
    ),
    Mistake(
        "a selector of other labels",
        "SG451",
        lambda m: of_kind(m, "StatefulSet")["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/component": "store"}),
        "its template's labels are others",
        cluster="kubectl: `selector` does not match template `labels`",
    ),
    Mistake(
        "a Deployment without labels",
        "SG451",
        lambda m: (workload(m, "Deployment"), m.beside[-1]["spec"]["template"].pop("metadata")),
        "the Deployment is refused",
    ),
    Mistake(
        "a spread of nothing",
        "SG452",
        lambda m: m.pod("whisper")["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
            {"app.kubernetes.io/instance": "sonograp"}
        ),
        "did you mean app.kubernetes.io/instance: sonograph?",
        WARNING,
    ),
    Mistake(
        "apart from nothing",
        "SG452",
        lambda m: m.pod("ingress").update(
            affinity={
                "podAntiAffinity": {
                    AFFINITY: [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "ingress"}}}]
                }
            }
        ),
        "nothing is kept apart",
        WARNING,
    ),
    Mistake(
        "two hosts of a replica",
        "SG453",
        lambda m: m.group("whisper").update(numOfHosts=2),
        "each replica of whisper is 2 pods",
        WARNING,
    ),
    Mistake("no host of a replica", "SG453", lambda m: m.group("whisper").update(numOfHosts=0), "has no pods", WARNING),
    Mistake(
        "a GPU without toleration",
        "SG454",
        lambda m: m.pod("whisper").pop("tolerations"),
        "which the pod does not tolerate",
        WARNING,
        profile=SMALL_GPUS,
    ),
    Mistake(
        "the only GPU without toleration",
        "SG454",
        lambda m: m.pod("all").pop("tolerations"),
        "which the pod does not tolerate",
        WARNING,
        profile=ONE_GPU,
    ),
    Mistake(
        "a toleration misspelt",
        "SG454",
        lambda m: m.pod("whisper")["tolerations"][0].update(key="nvidia.com/gpus"),
        "only nvidia.com/gpus",
        WARNING,
        profile=SMALL_GPUS,
    ),
    Mistake(
        "a toleration that exists with a value",
        "SG455",
        lambda m: m.pod("whisper")["tolerations"][0].update(value="true"),
        "takes no value",
        profile=SMALL_GPUS,
    ),
    Mistake(
        "a head that tolerates everything",
        "SG455",
        lambda m: m.head["template"]["spec"].update(tolerations=[{"operator": "Exists"}]),
        "every taint",
        NOTE,
    ),
    Mistake(
        "a node's label that is none",
        "SG456",
        lambda m: m.pod("whisper").update(nodeSelector={"a b": "c"}),
        "no label of Kubernetes",
    ),
    Mistake(
        "a node's label without its domain",
        "SG456",
        lambda m: m.pod("whisper").update(nodeSelector={"hostname": "c"}),
        "did you mean kubernetes.io/hostname?",
        WARNING,
    ),
    Mistake(
        "a selector against an affinity",
        "SG456",
        lambda m: m.pod("whisper").update(nodeSelector={"pool": "cpu"}, affinity=node_affinity(m, "pool", ["gpu", "spot"])),
        "waits forever",
    ),
    Mistake(
        "a spread over a misspelt label",
        "SG456",
        lambda m: m.pod("whisper")["topologySpreadConstraints"][0].update(topologyKey="kubernetes.io/hostnam"),
        "did you mean kubernetes.io/hostname?",
        WARNING,
    ),
]
PACKING = [
    Mistake(
        "a sidecar too many", "SG406", lambda m: sidecar(m, resources={"requests": {"cpu": "3"}}), "no described node has that"
    ),
    Mistake(
        "a Redis too large",
        "SG406",
        lambda m: pod(m, "StatefulSet")["containers"][0]["resources"]["requests"].update(cpu="8"),
        "no described node has that",
    ),
    Mistake(
        "a Job too large",
        "SG406",
        lambda m: pod(m, "Job")["containers"][0]["resources"]["requests"].update(cpu="8"),
        "no described node has that",
    ),
    Mistake(
        "a DaemonSet that takes most of each node", "SG406", lambda m: workload(m, "DaemonSet", "2"), "no described node has that"
    ),
    Mistake(
        "a Deployment beside",
        "SG406",
        lambda m: workload(m, "Deployment", "3", replicas=6),
        "beside those of StatefulSet sonograph-redis and Deployment own",
    ),
]
MISTAKES = [*VOLUMES, *CONTAINERS, *PROBES, *AMOUNTS, *ADMISSION, *WORKLOADS, *PACKING]
