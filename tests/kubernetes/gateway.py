"""A gateway in the cluster: a real Envoy in a pod, and what a gateway's controller does with objects of Gateway API."""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kuberay.images import Images
from kuberay.manifest.objects import CONTAINER_SECURITY, POD_SECURITY
from testing import envoy
from testing.envoy_config import Configuration, Object
from tests.kubernetes.images import KNOWN_COST
from tests.kubernetes.installation import ENDS_AT_ONCE, namespace
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until

SPACE = "gateways"
"""Namespace of the gateways' pods, which the policies let in."""
PORTS, ADMIN = {80: 8000, 443: 8443}, 9901
"""Ports of the pod, by those of the Gateway."""
FOLDER = KNOWN_COST / "gateways"
"""Folder of Envoy and its files, which every container reads at the same path."""
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
ROUTES = "httproutes.gateway.networking.k8s.io"
TIMEOUT = "180s"
"""Timeout for a route that states none, as a policy of the gateway has it: Envoy's own is 15 s."""


class Gateway:
    """A running Envoy in a pod, and its address in the cluster."""

    def __init__(self, kubectl: Kubectl, name: str, configuration: Configuration) -> None:
        self.kubectl, self.name = kubectl, name
        self._configuration = configuration
        self._urls: dict[str, str] = {}
        self._within = (f"--namespace={SPACE}", name)
        self.address = str(kubectl.get("pod", name, f"--namespace={SPACE}")["status"]["podIP"])

    def follow(self, routes: Sequence[Object]) -> None:
        """Take these HTTPRoutes as they are in the cluster, and wait until Envoy has them."""
        self.take(routes)
        wait_until(self._has_routes, "Envoy has the routes")

    def take(self, routes: Sequence[Object]) -> None:
        """Take these HTTPRoutes. Envoy has them a moment later."""
        backends = [(one["metadata"]["namespace"], backend) for one in routes for backend in _backends(one)]
        self._configuration.serve({one["name"]: self._url(space, one) for space, one in backends})
        self._configuration.route(routes)

    def ask(self, path: str) -> str:
        """Return what Envoy's own interface for operators answers."""
        words = ("exec", *self._within, "--", "python", "-c", ASK, f"http://127.0.0.1:{ADMIN}{path}")
        return self.kubectl(*words)

    def count(self, service: str, name: str) -> int:
        """Return a number that Envoy counts for this Service."""
        found = json.loads(self.ask(f"/stats?format=json&filter=^cluster.{service}.{name}$"))["stats"]
        return sum(one["value"] for one in found)

    def _url(self, space: str, backend: Object) -> str:
        """The address of a Service, whose name is another in every namespace here."""
        name = backend["name"]
        if name not in self._urls:
            service = self.kubectl.get("service", name, f"--namespace={space}")
            self._urls[name] = f"http://{service['spec']['clusterIP']}:{backend['port']}"
        return self._urls[name]

    def _has_routes(self) -> bool:
        return envoy.versions(json.loads(self.ask("/config_dump?resource=dynamic_route_configs"))) == self._configuration.versions


def _backends(route: Object) -> list[Object]:
    return [backend for rule in route["spec"]["rules"] for backend in rule.get("backendRefs", [])]


@contextmanager
def running(kubectl: Kubectl, name: str, gateway: Object | None = None, certificate: Sequence[Path] = ()) -> Iterator[Gateway]:
    """Run Envoy in a pod with the listeners of this Gateway, or else HTTP alone, and no routes."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    program = FOLDER / "envoy"
    if not program.exists():
        shutil.copy(envoy.program(), program)
    files = [Path(shutil.copy(file, folder)) for file in certificate]
    for file in files:
        file.chmod(0o644)
    configuration = Configuration(folder, gateway, files)
    configuration.begin("0.0.0.0", PORTS, ADMIN)
    configuration.serve({})
    configuration.route([])
    container = {
        "name": "envoy",
        "image": Images()["ingress"],
        "command": [str(program), "-c", str(configuration.bootstrap), *envoy.OPTIONS],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": ADMIN}, "periodSeconds": 1},
        "securityContext": CONTAINER_SECURITY,
    }
    kubectl.apply(namespace(SPACE, **{"sonograph/clients": ""}))
    metadata = {"name": name, "namespace": SPACE}
    spec = {"containers": [container], "securityContext": POD_SECURITY, **ENDS_AT_ONCE}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    kubectl("wait", f"pod/{name}", f"--namespace={SPACE}", "--for=condition=Ready", "--timeout=120s")
    try:
        yield Gateway(kubectl, name, configuration)
    finally:
        kubectl("delete", "pod", name, f"--namespace={SPACE}")
        shutil.rmtree(folder)


class Controller:
    """A gateway's controller for the objects that KubeRay makes in a namespace: it programs Envoy, and says so in their status."""

    def __init__(self, gateway: Gateway, space: str) -> None:
        self.weights: list[list[int]] = []
        """Weights of the backends, each time that they have changed; the active cluster's is first."""
        self._gateway, self._space = gateway, f"--namespace={space}"
        self._said: dict[str, int] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Follow the HTTPRoute meanwhile, within a fraction of a second: KubeRay does not wait until a gateway has its weights."""
        watch = ("get", ROUTES, self._space, "--watch", "--output=json")
        with ThreadPoolExecutor(1) as pool:
            with self._gateway.kubectl.begin(*watch) as process:
                assert process.stdout
                following = pool.submit(self._follow, process.stdout)
                yield
            following.result()

    def _follow(self, printed: IO[bytes]) -> None:
        lines: list[bytes] = []
        for line in printed:
            lines.append(line)
            if line == b"}\n":
                self._take(json.loads(b"".join(lines)))
                lines.clear()

    def _take(self, route: Object) -> None:
        """Program Envoy for the HTTPRoute as it is now, then say so."""
        for rule in route["spec"]["rules"]:
            rule.setdefault("timeouts", {"request": TIMEOUT})
        weights = [backend["weight"] for backend in _backends(route)]
        if weights == (self.weights or [[]])[-1]:
            return
        self._gateway.take([route])
        self.weights.append(weights)
        for gateway in self._gateway.kubectl.get("gateways.gateway.networking.k8s.io", self._space):
            self._say(gateway, {"conditions": _conditions(gateway, "Accepted", "Programmed")})
        named = [{"parentRef": one, "controllerName": "sonograph/test"} for one in route["spec"]["parentRefs"]]
        conditions = _conditions(route, "Accepted", "ResolvedRefs")
        self._say(route, {"parents": [{**one, "conditions": conditions} for one in named]})

    def _say(self, document: Object, status: Object) -> None:
        """Write the status of this generation of an object, once."""
        metadata = document["metadata"]
        if self._said.get(metadata["uid"]) != metadata["generation"]:
            kind = f"{document['kind'].lower()}s.gateway.networking.k8s.io"
            words = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
            self._gateway.kubectl("patch", kind, metadata["name"], self._space, *words)
            self._said[metadata["uid"]] = metadata["generation"]


def _conditions(document: Object, *kinds: str) -> list[dict[str, Any]]:
    common = {"status": "True", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    generation = document["metadata"]["generation"]
    return [{"type": kind, "reason": kind, "observedGeneration": generation, **common} for kind in kinds]
