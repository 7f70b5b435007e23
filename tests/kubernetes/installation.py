"""A rendered profile in a namespace of the cluster, installed in the order of docs/kubernetes/index.md, and pods that use it."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from kuberay import render
from kuberay.images import Images
from kuberay.manifest.objects import CONTAINER_SECURITY, INSTANCE, POD_SECURITY
from kuberay.profiles import Profile
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until

READY_S = 600
LONG_S = 900
"""Longest wait for a change to be through, on a busy machine."""
CLIENTS, STRANGERS = "clients", "strangers"
"""Namespaces with a pod `client` each: of one that the policies let in, and of another."""
ENDS_AT_ONCE = {"terminationGracePeriodSeconds": 0}
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
DRAW = """
import json, pathlib, sys, graphs, httpx
sample = pathlib.Path(graphs.__file__).parent / "samples" / "red-apple.wav"
answer = httpx.post(sys.argv[1], files={"file": sample.read_bytes()}, data=json.loads(sys.argv[2]), timeout=120)
sys.stdout.buffer.write(answer.content if answer.status_code == 200 else repr(answer).encode())
"""
LOAD = """
import asyncio, json, pathlib, sys, threading, time, graphs, httpx
url, clients, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
sample = (pathlib.Path(graphs.__file__).parent / "samples" / "red-apple.wav").read_bytes()
answers, ended, start_s = [], threading.Event(), time.monotonic()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
async def client():
    while not ended.is_set():
        try:
            async with httpx.AsyncClient(timeout=httpx.Timeout(150, connect=20)) as connection:  # a new one, as of other clients
                outcome = (await connection.post(url, files={"file": sample})).status_code
        except httpx.HTTPError as error:
            outcome = repr(error)
        answers.append([outcome, time.monotonic() - start_s])
        await asyncio.sleep(pause_s)
async def main():
    await asyncio.gather(*(client() for _ in range(clients)))
asyncio.run(main())
print(json.dumps(answers))
"""
SERVE = """
import json, os, urllib.request
headers = {"Authorization": "Bearer " + os.environ["RAY_AUTH_TOKEN"]}
request = urllib.request.Request("http://localhost:8265/api/serve/applications/", headers=headers)
print(urllib.request.urlopen(request).read().decode())
"""
type Answers = list[tuple[int | str, float]]
"""Of each request its status, or the error, and when it came, in seconds since the load's begin."""
type Change = Callable[[dict[str, Any], dict[str, Any]], object]
"""Changes of a RayService, and of its Serve config, in place."""


class Installation:
    def __init__(self, kubectl: Kubectl, profile: Profile, folder: Path, change: Change | None = None) -> None:
        """`change`: what a rendered RayService has otherwise in this installation."""
        self.kubectl, self.profile, self.folder = kubectl, profile, folder
        self.namespace = f"--namespace={profile.namespace}"
        self._change = change
        self.service = f"{profile.service}-serve-svc.{profile.namespace}"

    def prepare(self) -> None:
        """Make what the rendered manifests presuppose: the namespace with its labels, and Redis' password."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self.kubectl.apply(namespace(self.profile.namespace, **labels))
        self.kubectl("label", "--overwrite", "namespace", "kuberay-system", "sonograph/operator=")
        password = f"--from-literal=password={secrets.token_hex(24)}"
        self.kubectl("create", "secret", "generic", self.profile.redis_secret, self.namespace, password)
        for name, text in render.manifests(self.profile, Images(self.profile.values.registry)).items():
            (self.folder / name).write_text(text)
        if self._change:
            self.change(self._change)

    def change(self, change: Change) -> None:
        """Change the rendered RayService; `apply` applies it."""
        file = self.folder / "rayservice.yaml"
        service = yaml.safe_load(file.read_text())
        config = yaml.safe_load(service["spec"]["serveConfigV2"])
        change(service, config)
        service["spec"]["serveConfigV2"] = yaml.safe_dump(config)
        file.write_text(yaml.safe_dump(service))

    def apply(self) -> str:
        """Apply all manifests, and return kubectl's warnings."""
        return self.kubectl.run("apply", "--filename", self.folder).stderr.decode()

    def install(self) -> None:
        """Prepare, apply and wait. What explains a failure is in its message."""
        self.prepare()
        self.apply()
        try:
            self.wait_until_ready()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{summary(self.kubectl, self.namespace)}") from error

    def wait_until_ready(self) -> None:
        words = (self.namespace, "--for=condition=Ready", f"--timeout={READY_S}s")
        self.kubectl("wait", f"rayservice/{self.profile.service}", *words, timeout_s=READY_S + 30)
        # The proxies and the policies of the nodes learn of the pods a moment later.
        wait_until(lambda: self.connects(CLIENTS, "client", self.service, 8000), "a client connects")

    def patch(self, kind: str, name: str, operations: list[dict[str, Any]], *words: str) -> None:
        self.kubectl("patch", kind, name, self.namespace, "--type=json", "--patch", json.dumps(operations), *words)

    def wait_until_observed(self) -> None:
        """Wait until KubeRay has read every RayService and RayCluster as it is now."""

        def observed() -> bool:
            found = [one for kind in ("rayservices", "rayclusters") for one in self.kubectl.get(kind, self.namespace)]
            return all(one["status"].get("observedGeneration") == one["metadata"]["generation"] for one in found)

        wait_until(observed, "KubeRay has read every change")

    def pods(self, **labels: str) -> list[dict[str, Any]]:
        selector = ",".join([f"{INSTANCE}={self.profile.service}", *(f"ray.io/{key}={value}" for key, value in labels.items())])
        found: list[dict[str, Any]] = self.kubectl.get("pods", self.namespace, f"--selector={selector}")
        return found

    def evict(self, pod: dict[str, Any]) -> bool:
        """Evict a pod as `kubectl drain` does, and return whether its disruption budget lets it."""
        name, space = pod["metadata"]["name"], self.profile.namespace
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": space}}
        path = f"/api/v1/namespaces/{space}/pods/{name}/eviction"
        return self.kubectl.succeeds("create", "--raw", path, "--filename=-", content=json.dumps(eviction).encode())

    def status(self) -> str:
        """Return what `sonograph status --json` prints in a pod of the ingress."""
        name = self.pods(group="ingress", cluster=self.active())[0]["metadata"]["name"]
        return self.kubectl("exec", self.namespace, name, "--", "sh", "-c", "sonograph status --json || true")

    def head(self, program: str, *arguments: str) -> str:
        """Run Python in the container of the active cluster's head."""
        (pod,) = self.pods(cluster=self.active(), **{"node-type": "head"})
        name = pod["metadata"]["name"]
        return self.kubectl("exec", self.namespace, name, "--container=ray-head", "--", "python", "-c", program, *arguments)

    def clusters(self) -> list[str]:
        """Return the names of the RayClusters, the oldest first."""
        own = f"--selector=ray.io/originated-from-cr-name={self.profile.service}"
        found = self.kubectl.get("rayclusters", self.namespace, own, "--sort-by=.metadata.creationTimestamp")
        return [one["metadata"]["name"] for one in found]

    def active(self) -> str:
        """Return the cluster that gets the requests."""
        status = self.kubectl.get("rayservice", self.profile.service, self.namespace)["status"]
        return str(status["activeServiceStatus"].get("rayClusterName", ""))

    def replicas(self) -> list[tuple[str, str]]:
        """Return the deployment of each running replica, and the address of its pod."""
        (application,) = json.loads(self.head(SERVE))["applications"].values()
        found = [(name, one) for name, deployment in application["deployments"].items() for one in deployment["replicas"]]
        return [(name, replica["node_ip"]) for name, replica in found if replica["state"] == "RUNNING"]

    def draw(self, space: str, **fields: str) -> bytes:
        """Return the answer to a recording that the client in this namespace posts to the Service; of an error its status."""
        words = (f"http://{self.service}:8000/graph", json.dumps(fields))
        return self.kubectl.run("exec", f"--namespace={space}", "client", "--", "python", "-c", DRAW, *words).stdout

    @contextmanager
    def load(self, clients: int, pause_s: float = 0.5, until: Callable[[], bool] = lambda: True) -> Iterator[Answers]:
        """Send recordings meanwhile, and until the condition holds; at the end the list has the answers."""
        words = (f"http://{self.service}:8000/graph", str(clients), str(pause_s))
        command = ("exec", "--stdin", f"--namespace={CLIENTS}", "client", "--", "python", "-c", LOAD, *words)
        answers: Answers = []
        with self.kubectl.begin(*command) as sender:
            yield answers
            wait_until(until, "what the load was for", LONG_S, pause_s=3)
            output, _ = sender.communicate(timeout=200)
        answers += [(outcome, at_s) for outcome, at_s in json.loads(output)]

    def connects(self, space: str, pod: str, host: str, port: int) -> bool:
        """Return whether a pod opens a connection, within 5 s."""
        return self.kubectl.succeeds("exec", f"--namespace={space}", pod, "--", "python", "-c", CONNECT, host, str(port))

    def end(self) -> None:
        """End the service and its pods: the clean-up by KubeRay needs Redis."""
        own = f"{INSTANCE}={self.profile.service}"
        self.kubectl("delete", "rayservice", self.profile.service, self.namespace, "--timeout=300s", timeout_s=320)
        wait_until(lambda: not self.clusters(), "the clusters are gone", LONG_S)
        pending = ("--field-selector=status.phase=Pending", f"--selector={own}", "--grace-period=0", "--force")
        self.kubectl("delete", "pods", self.namespace, *pending)
        self.kubectl("delete", "--filename", self.folder, "--ignore-not-found", "--timeout=300s", timeout_s=320)

    def remove(self) -> None:
        """Delete the namespace, after KubeRay has ended the service: its clean-up needs Redis."""
        self.kubectl("delete", "rayservice", "--all", self.namespace, "--timeout=300s", timeout_s=320)
        self.kubectl("wait", "rayclusters", "--all", self.namespace, "--for=delete", "--timeout=600s", timeout_s=620)
        self.kubectl("delete", "pods", self.namespace, "--field-selector=status.phase=Pending", "--grace-period=0", "--force")
        self.kubectl("delete", "namespace", self.profile.namespace, "--timeout=300s", timeout_s=320)
        shutil.rmtree(self.folder)


@contextmanager
def pod(kubectl: Kubectl, name: str, space: str) -> Iterator[None]:
    """Run a pod of the ingress' image that waits for commands; its label `app` is its name."""
    container = {
        "name": "main",
        "image": Images()["ingress"],
        "command": ["sleep", "infinity"],
        "securityContext": CONTAINER_SECURITY,
    }
    spec = {"containers": [container], "securityContext": POD_SECURITY, **ENDS_AT_ONCE}
    metadata = {"name": name, "namespace": space, "labels": {"app": name}}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    kubectl("wait", f"pod/{name}", f"--namespace={space}", "--for=condition=Ready", "--timeout=120s")
    try:
        yield
    finally:
        kubectl("delete", "pod", name, f"--namespace={space}")


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def summary(kubectl: Kubectl, words: str) -> str:
    """Return what explains why something is not ready."""
    shown = (("get", "pods", "--output=wide", words), ("get", "events", "--sort-by=.lastTimestamp", words))
    status = kubectl.get("rayservices", words)
    return "\n".join([*(kubectl(*each)[-6000:] for each in shown), json.dumps([one.get("status") for one in status])])
