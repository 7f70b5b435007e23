"""Rules on templates of pods: what looks like a mistake and is none has no finding, and odd values stop no rule."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kuberay.doctor.documents import Document
from kuberay.doctor.examine import rules
from kuberay.doctor.manifest import RayService, Service
from kuberay.doctor.pod_templates import PodTemplate
from kuberay.doctor.rules import admission, amounts, budgets, containers, pods, probes, scheduling, volumes, workloads
from kuberay.profiles import CPU, SMALL_GPUS, Profile
from testing.manifests import Manifests
from tests.kuberay.mistakes import pods as table
from tests.kuberay.mistakes.pods import add, level, limit_range, node_affinity, pod, quota, shm, sidecar, volume, workload

MODULES = (admission, amounts, budgets, containers, probes, scheduling, volumes, workloads)
OWN = [one.examine for one in rules() if one.examine.__module__ in {module.__name__ for module in MODULES}]
OWN += [pods.the_pods_that_start_fit_the_nodes]
HEALTHY: dict[str, Callable[[Manifests], object]] = {
    "a mount of a volume that KubeRay adds": lambda m: m.head["template"]["spec"]["containers"].append(
        {
            "name": "logs",
            "image": "example.com/logs:1@sha256:" + "0" * 64,
            "volumeMounts": [{"name": "ray-logs", "mountPath": "/tmp/ray"}],
        }
    ),
    "a further volume": lambda m: volume(m, "ingress", "/scratch", {"emptyDir": {"sizeLimit": "1Gi"}}),
    "a subPath below the volume": lambda m: m.container("ingress")["volumeMounts"][0].update(subPath="keys/..a"),
    "one path in two containers": lambda m: (
        volume(m, "ingress", "/scratch", {"emptyDir": {}}),
        sidecar(m, volumeMounts=[{"name": "further", "mountPath": "/scratch"}]),
    ),
    "a /dev/shm of a third of the memory": lambda m: shm(m, "1Gi"),
    "a /dev/shm of the memory, as KubeRay's own": lambda m: shm(m, "3Gi"),
    "a /dev/shm without a limit": lambda m: volume(m, "whisper", "/dev/shm", {"emptyDir": {"medium": "Memory"}}),
    "a small /dev/shm for a small object store": lambda m: (
        shm(m, "512Mi"),
        m.group("whisper")["rayStartParams"].update({"object-store-memory": "200000000"}),
    ),
    "a root that cannot be written, and /tmp that can": lambda m: (
        m.container("whisper").update(securityContext={"readOnlyRootFilesystem": True}),
        volume(m, "whisper", "/tmp", {"emptyDir": {}}),
    ),
    "a sidecar's port": lambda m: sidecar(m, ports=[{"name": "http-admin1", "containerPort": 9000}]),
    "a port in two protocols": lambda m: sidecar(
        m, ports=[{"name": "dns", "containerPort": 53}, {"name": "dns-udp", "containerPort": 53, "protocol": "UDP"}]
    ),
    "variables that refer to others": lambda m: m.container("whisper")["env"].extend(
        [
            {"name": "A", "value": "$(RAY_USAGE_STATS_ENABLED)/$$(B)/$(KUBERNETES_SERVICE_HOST)"},
            {"name": "B", "value": "$(A) $(RAY_ADDRESS)"},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}, "value": ""},
        ]
    ),
    "a variable of a Secret that the doctor does not see": lambda m: sidecar(
        m, envFrom=[{"secretRef": {"name": "own", "optional": True}}], env=[{"name": "A", "value": "$(FROM_SECRET)"}]
    ),
    "the token's mode as it is": lambda m: m.add_env("RAY_AUTH_MODE", "token"),
    "images of registries with ports": lambda m: pod(m, "StatefulSet")["containers"][0].update(
        image="registry.Example.com:5000/some__thing/redis-x:7.4_A@sha256:" + "0" * 64
    ),
    "a probe of the app": lambda m: m.container("ingress")["readinessProbe"]["httpGet"].update(path="/readyz"),
    "a probe by the port's number": lambda m: m.container("ingress")["readinessProbe"]["httpGet"].update(port=8000),
    "a probe of Ray's agent": lambda m: m.container("whisper").update(
        livenessProbe={"httpGet": {"path": "/api/local_raylet_healthz", "port": 52365}, "timeoutSeconds": 9, "periodSeconds": 5}
    ),
    "a head's probe of the dashboard": lambda m: m.container("head").update(
        readinessProbe={"httpGet": {"path": "/api/gcs_healthz", "port": 8265}}
    ),
    "a probe of a port that a sidecar does not declare": lambda m: sidecar(m, readinessProbe={"tcpSocket": {"port": 9000}}),
    "a limit above the request": lambda m: m.container("whisper")["resources"]["limits"].update(cpu="2"),
    "a limit that is the request in other words": lambda m: m.container("whisper")["resources"]["limits"].update(
        {"cpu": "1.25", "ephemeral-storage": "10Gi"}
    ),
    "a whole number": lambda m: m.requests("whisper").update(cpu=2),
    "huge pages": lambda m: workload(m, "Deployment")["resources"].update(
        requests={"cpu": "1", "memory": "64Mi", "hugepages-2Mi": "4Mi"}, limits={"memory": "64Mi", "hugepages-2Mi": "4Mi"}
    ),
    "a number that is not root": lambda m: m.container("whisper")["securityContext"].update(runAsUser=1000),
    "root where it may be": lambda m: m.pod("whisper").update(securityContext={"runAsUser": 0}),
    "the rendered pods where it is restricted": lambda m: level(m, "restricted"),
    "a container that listens below 1024 where it is restricted": lambda m: (
        level(m, "restricted"),
        m.container("whisper")["securityContext"]["capabilities"].update(add=["NET_BIND_SERVICE"]),
    ),
    "the node's path where the namespace is another": lambda m: (
        level(m, "restricted", "other"),
        volume(m, "whisper", "/data", {"hostPath": {"path": "/data"}}),
    ),
    "a namespace that only warns": lambda m: (
        level(m, "restricted", mode="warn"),
        volume(m, "whisper", "/data", {"hostPath": {"path": "/data"}}),
    ),
    "a range that holds the pods": lambda m: limit_range(m, max={"memory": "8Gi"}, default={"cpu": "4", "memory": "1Gi"}),
    "a quota that holds two clusters": lambda m: quota(m, requests_memory="64Gi", pods="40"),
    "a quota of another namespace": lambda m: (
        quota(m, pods="1"),
        m.beside[-1]["metadata"].update(namespace="other"),
    ),
    "a CronJob that ends": lambda m: table.cron_job(m).update(restartPolicy="OnFailure"),
    "a selector by an expression": lambda m: (
        workload(m, "Deployment"),
        m.beside[-1]["spec"].update(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["own", "b"]}]}),
    ),
    "apart from the same cluster's pods": lambda m: m.pod("ingress").update(
        affinity={
            "podAntiAffinity": {
                table.AFFINITY: [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"ray.io/cluster": "sonograph-x", "ray.io/node-type": "worker"}},
                    }
                ]
            }
        }
    ),
    "one host": lambda m: m.group("whisper").update(numOfHosts=1),
    "a selector within an affinity": lambda m: m.pod("whisper").update(
        nodeSelector={"pool": "cpu"}, affinity=node_affinity(m, "pool", ["cpu", "spot"])
    ),
    "a zone": lambda m: m.pod("whisper").update(nodeSelector={"topology.kubernetes.io/zone": "a"}),
    "a small DaemonSet": lambda m: workload(m, "DaemonSet", "100m"),
    "a small sidecar": lambda m: sidecar(m, resources={"requests": {"cpu": "100m", "memory": "64Mi"}}),
    "a Deployment that is scaled to nothing": lambda m: workload(m, "Deployment", "100", replicas=0),
    "a disk that no described node mentions": lambda m: pod(m, "StatefulSet")["containers"][0]["resources"]["requests"].update(
        {"ephemeral-storage": "1Gi"}
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_looks_like_a_mistake_and_is_none_has_no_finding(name: str) -> None:
    manifests = Manifests()
    HEALTHY[name](manifests)
    assert [
        str(finding) for finding in manifests.findings() if finding.number != "SG715"
    ] == []  # that of a namespace without objects


def test_a_toleration_of_everything_is_one_of_gpus() -> None:
    manifests = Manifests(SMALL_GPUS)
    manifests.pod("whisper").update(tolerations=[{"operator": "Exists"}])
    assert [str(finding) for finding in manifests.findings()] == []


def test_a_pods_requests_are_those_of_all_that_run_together_or_of_one_that_starts() -> None:
    spec: dict[str, Any] = {
        "overhead": {"cpu": "1"},
        "initContainers": [
            {"name": "stays", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}},
            {"name": "starts", "resources": {"requests": {"cpu": "7"}, "limits": {"memory": "1Gi"}}},
        ],
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}, {"name": "b", "resources": {}}],
    }
    template = PodTemplate(Document(Path("a.yaml"), {}), "spec", spec, {})
    assert template.requests == {"cpu": 2 + 7 + 1, "memory": 2**30}
    assert template.taken(lambda one: one.limits) == {"cpu": 1 + 1, "memory": 2**30}


def test_a_quota_counts_what_runs_beside_a_container_of_the_start_and_the_overhead() -> None:
    """The sidecar begins first, and runs while the container of the start does: 1 + 2 + 3 CPUs."""
    manifests = Manifests()
    starting = [{**_uses("2"), "restartPolicy": "Always"}, _uses("3")]
    add(manifests, "v1", "Pod", "own", spec={"overhead": {"cpu": "1"}, "initContainers": starting, "containers": [_uses("1")]})
    manifests.beside[-1]["metadata"].update(namespace="other")
    quota(manifests, requests_cpu="5")
    manifests.beside[-1]["metadata"].update(namespace="other")
    assert any("take 6, and it is 5" in str(finding) for finding in manifests.findings())


def _uses(cpu: str) -> dict[str, Any]:
    image = "example.com/own:1@sha256:" + "0" * 64
    return {"name": f"uses-{cpu}", "image": image, "resources": {"requests": {"cpu": cpu}}}


@pytest.mark.parametrize("odd", ["text", 7, [], {}, [1], {"a": 1}, ["a", None], True], ids=repr)
def test_odd_values_beside_stop_no_rule(odd: Any) -> None:
    """Each field of the Redis and the Job takes an odd value in its turn."""
    manifests = Manifests(CPU)
    level(manifests, "restricted")
    limit_range(manifests, default={"cpu": "4"})
    quota(manifests, pods="40")
    add(manifests, "v1", "PersistentVolumeClaim", "own", spec={"resources": {"requests": {"storage": "1Gi"}}})
    kinds = ("StatefulSet", "Job", "Namespace", "LimitRange", "ResourceQuota", "PersistentVolumeClaim")
    documents = manifests.documents()
    parsed = RayService.model_validate(documents[0])
    for number, document in enumerate(documents):
        if document["kind"] in kinds:
            for path in _paths(document, ()):
                changed = copy.deepcopy(documents)
                _set(changed[number], path, odd)
                service = Service(Document(Path("a.yaml"), documents[0]), _beside(changed), parsed)
                for examine in OWN:
                    assert all(finding.sentence for finding in examine(service)), path


def _beside(documents: list[dict[str, Any]]) -> tuple[Document, ...]:
    return tuple(Document(Path("a.yaml"), one) for one in documents[1:])


def _paths(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Every path of at least two steps below `spec` or the labels, but those of the containers' texts."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*path, key) for key, _ in items]
    return [one for one in found if len(one) > 1 and one[0] != "apiVersion"] + [
        one for key, item in items for one in _paths(item, (*path, key))
    ]


def _set(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def test_another_profiles_rendered_pods_are_admitted_where_it_is_restricted() -> None:
    for profile in (CPU, SMALL_GPUS):
        assert _restricted(profile) == []


def _restricted(profile: Profile) -> list[str]:
    manifests = Manifests(profile)
    level(manifests, "restricted")
    return [json.dumps(str(finding)) for finding in manifests.findings()]
