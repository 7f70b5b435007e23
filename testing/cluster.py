"""A Ray cluster of several nodes on one machine, started from a manifest as KubeRay does: each node from its own image's environment.

All nodes share this machine's address, so each node's proxy has its own port. This module adds what KubeRay adds to a container.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from deployments.paths import weights_dir
from kuberay import ray_autoscaler
from testing.environments import ROOT, environment
from testing.service import free_port

MANIFEST = ROOT / "kuberay" / "manifests" / "cpu" / "rayservice.yaml"
START_S = 300
OBJECT_STORE_BYTES = 80_000_000
"""Ray's minimum, since five nodes share one machine's memory. The objects that they exchange are smaller."""


@dataclass
class Node:
    """One pod: `ray start --block` and its descendants."""

    group: str
    process: subprocess.Popen[bytes]
    port: int
    """Port of the node's own Serve proxy."""
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Kill all processes at once, as the failure of a machine does."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)


class Cluster:
    """The nodes of a manifest's RayCluster, and a client of its dashboard."""

    def __init__(self, folder: Path) -> None:
        """The path of `folder` must be short, since Ray puts its sockets below it."""
        self.folder = folder
        self.service: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
        self.types = ray_autoscaler.node_types(self.service)
        self.nodes: list[Node] = []
        self._ending: list[Node] = []
        self._started = 0
        self._token, self._password = secrets.token_hex(16), secrets.token_hex(16)
        self._gcs, self._dashboard, self._serve, self._redis = (free_port() for _ in range(4))
        headers = {"Authorization": f"Bearer {self._token}"}
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._dashboard}", headers=headers, timeout=60)
        # Debian's Redis replaces the manifests' StatefulSet; it survives the head.
        words = ["redis-server", "--port", str(self._redis), "--bind", "127.0.0.1", "--requirepass", self._password]
        words += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL)]

    def config(self, service: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return serveConfigV2 of `service`, by default of the manifest, as KubeRay submits it, with the changes that one machine
        requires and with `GET /graph` enabled.
        """
        config: dict[str, Any] = yaml.safe_load((service or self.service)["spec"]["serveConfigV2"])
        config["http_options"]["port"] = self._serve
        args = config["applications"][0]["args"]
        args["http"]["show_graph"] = True
        # In the images every environment is /opt/sonograph, so a default path that the head fills in is valid on every node.
        args["whisper"]["weights"] = str(environment("whisper") / weights_dir("whisper").relative_to(sys.prefix))
        return config

    def nodes_of(self, group: str) -> list[Node]:
        return [node for node in self.nodes if node.group == group]

    def start(self, group: str) -> Node:
        """Start a pod of this group, or the head, with its image, its container's variables, its resources and its labels."""
        head, kind = group == ray_autoscaler.HEAD, self.types[group]
        spec = self.service["spec"]["rayClusterConfig"]
        pods = {pod["groupName"]: pod for pod in spec["workerGroupSpecs"]} | {ray_autoscaler.HEAD: spec["headGroupSpec"]}
        (container,) = pods[group]["template"]["spec"]["containers"]
        bin = environment(container["image"].split(":")[0].rsplit("/")[-1]) / "bin"
        folder, port = self.folder / f"{group[:4]}{self._started}", self._serve if head else free_port()
        folder.mkdir()  # one for each container, so that a restarted container finds it empty
        self._started += 1
        custom = {name: amount for name, amount in kind.resources.items() if name not in ("CPU", "memory")}
        command = [bin / "ray", "start", "--block", "--num-gpus=0", f"--num-cpus={kind.resources['CPU']}"]
        command += [f"--memory={kind.resources['memory']}", f"--resources={json.dumps(custom)}"]
        command += [f"--temp-dir={folder}", f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false"]
        env = {one["name"]: one["value"] for one in container["env"]}
        env |= {**self._access(), "RAY_SERVE_KV_TIMEOUT_S": "5"}
        env |= {"RAY_gcs_server_request_timeout_seconds": "5", "HOME": str(folder), "PATH": f"{bin}:{os.defpath}"}
        if head:
            command += ["--head", "--no-monitor", f"--port={self._gcs}", f"--dashboard-port={self._dashboard}"]
            command += [f"--redis-password={self._password}"]
            env |= {"RAY_REDIS_ADDRESS": f"127.0.0.1:{self._redis}", "RAY_external_storage_namespace": "sonograph"}
        else:
            command += [f"--address=127.0.0.1:{self._gcs}"]
            command += [f"--labels={','.join(f'{key}={value}' for key, value in kind.labels.items())}"]
            env |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "600", "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(port)}
        output = folder / "output.txt"
        with output.open("ab") as file:
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=subprocess.STDOUT)
        self.nodes.append(Node(group, process, port, output))
        return self.nodes[-1]

    def kill(self, node: Node) -> None:
        node.kill()
        self.nodes.remove(node)

    def end(self, node: Node) -> None:
        """Start the preStop hook of the node's pod, and after it SIGTERM, as Kubernetes does with a deleted pod. The node still runs."""
        pid = str(node.process.pid)
        hook = [environment("ingress") / "bin" / "sonograph", "drain", f"127.0.0.1:{self._gcs}", "--settle-s", "0"]
        words = ["sh", "-c", '"$@"; kill "$0"', pid, *hook, "--port", str(node.port), "--parent", pid]
        self._processes.append(subprocess.Popen(words, env={**os.environ, **self._access()}))
        self.nodes.remove(node)
        self._ending.append(node)

    def _access(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}

    def wait_for_nodes(self) -> None:
        """Wait until Ray counts exactly the nodes that run here, by label."""
        wanted = Counter(self.types[node.group].labels.get("image") for node in self.nodes)
        self.wait_until(lambda: Counter(node["labels"].get("image") for node in self.alive_nodes()) == wanted, f"nodes: {wanted}")

    def state(self, resource: str) -> list[dict[str, Any]]:
        """Return `nodes` or `actors` from Ray's state API, including dead ones."""
        answer = self._client.get(f"/api/v0/{resource}", params={"detail": "true", "limit": "10000"})
        answer.raise_for_status()
        return list(answer.json()["data"]["result"]["result"])

    def alive_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.state("nodes") if node["state"] == "ALIVE"]

    def replicas(self, deployment: str) -> list[dict[str, Any]]:
        """Return the actors of a deployment's replicas, including dead ones."""
        return [actor for actor in self.state("actors") if actor["class_name"] == f"ServeReplica:sonograph:{deployment}"]

    def images(self, deployment: str, state: str = "ALIVE") -> list[str | None]:
        """Return the label `image` of each node with a replica of the deployment in this state."""
        labels = {node["node_id"]: node["labels"] for node in self.state("nodes")}
        return [labels[actor["node_id"]].get("image") for actor in self.replicas(deployment) if actor["state"] == state]

    def deploy(self, config: dict[str, Any]) -> None:
        """Submit the config by the same request as KubeRay."""
        answer = self._client.put("/api/serve/applications/", json=config)
        assert answer.status_code == 200, answer.text

    def delete(self) -> None:
        """Delete the application; Serve keeps running."""
        self.deploy({**self.config(), "applications": []})
        self.wait_until(lambda: "sonograph" not in self.applications(), "the application is gone")

    def applications(self) -> dict[str, Any]:
        """Return the applications as Serve reports them, by name."""
        answer = self._client.get("/api/serve/applications/")
        answer.raise_for_status()
        return dict(answer.json()["applications"])

    def application(self) -> dict[str, Any]:
        """Return the application as Serve reports it; empty while the head does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            return dict(self.applications().get("sonograph", {}))
        return {}

    def summary(self) -> str:
        """Return the states that explain why the application does not serve, one per line."""
        application = self.application()
        lines = [f"application {application.get('status')}: {application.get('message')}"]
        for name, one in application.get("deployments", {}).items():
            lines.append(f"{name} {one['status']}: {[replica['state'] for replica in one['replicas']]} {one['message'][-500:]}")
        for node in self.nodes_of("ingress"):
            try:
                answer = httpx.get(f"{node.url}/readyz", timeout=10)
                lines.append(f"{node.url}/readyz {answer.status_code}: {answer.text[:500]}")
            except httpx.HTTPError as error:
                lines.append(f"{node.url}/readyz {error!r}")
        return "\n".join(lines)

    def ready(self) -> bool:
        """Return whether every ingress pod reports that all models serve."""
        return all(httpx.get(f"{node.url}/readyz", timeout=10).status_code == 200 for node in self.nodes_of("ingress"))

    def serves(self) -> bool:
        """Return whether the whole application runs and serves."""
        return self.application().get("status") == "RUNNING" and self.ready()

    def running(self, deployment: str) -> int:
        """Return the number of running replicas, as Serve counts them."""
        found = self.application().get("deployments", {}).get(deployment, {})
        return sum(replica["state"] == "RUNNING" for replica in found.get("replicas", []))

    def wait_until(self, condition: Callable[[], bool], description: str, wait_s: float = START_S) -> None:
        deadline_s = time.monotonic() + wait_s
        while True:
            for node in self.nodes:
                assert node.process.poll() is None, f"a node of {node.group} has ended: {node.output.read_text()[-4000:]}"
            with contextlib.suppress(httpx.HTTPError):
                if condition():
                    return
            assert time.monotonic() < deadline_s, f"not within {wait_s:.0f} s: {description}\n{self.summary()}"
            time.sleep(0.5)

    def close(self) -> None:
        self._client.close()
        for node in (*self.nodes, *self._ending):
            node.kill()
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(*groups: str) -> Iterator[Cluster]:
    """Run the head and a node for each group, and check at the end that all their processes have ended."""
    with tempfile.TemporaryDirectory(prefix="sg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start(ray_autoscaler.HEAD)
            cluster.wait_until(lambda: cluster.alive_nodes() != [], "the head answers")
            for group in groups:
                cluster.start(group)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.close()
        remaining = [one.pid for one in psutil.process_iter() if folder in _environ(one).get("HOME", "")]
        assert remaining == [], f"still running: {remaining}"


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
