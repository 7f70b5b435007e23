"""RayServices as a cluster has them, with their RayClusters and what Serve runs with: read by the user's kubectl."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kuberay import kubectl
from kuberay.doctor.documents import Unreadable
from kuberay.doctor.manifest import Part
from kuberay.kubectl import KubectlFailed

KINDS = "rayservices.ray.io,rayclusters.ray.io"
SERVE = """
import json, os, urllib.request
headers = {"Authorization": "Bearer " + os.environ.get("RAY_AUTH_TOKEN", "")}
request = urllib.request.Request("http://localhost:8265/api/serve/applications/", headers=headers)
found = json.load(urllib.request.urlopen(request, timeout=20))
print(json.dumps({name: found.get(name) for name in ("http_options", "proxy_location")}))
"""
"""Program for a head: the options that its Serve runs with."""

BEGIN, END = 200, 300
"""Characters kept of a longer text: of an exception the last line says most."""


class Unreachable(Unreadable):
    """One sentence on why there is nothing to examine."""


class Condition(Part):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class Deployment(Part):
    status: str = ""
    message: str = ""


class Application(Deployment):
    serve_deployment_statuses: dict[str, Deployment] = {}


class OneCluster(Part):
    """The status of one of the two RayClusters that a RayService may have."""

    ray_cluster_name: str = ""
    application_statuses: dict[str, Application] = {}


class Status(Part):
    conditions: list[Condition] = []
    observed_generation: int = 0
    active_service_status: OneCluster = OneCluster()
    pending_service_status: OneCluster = OneCluster()


class Metadata(Part):
    name: str
    generation: int = 0


class LiveService(Part):
    metadata: Metadata
    spec: dict[str, Any]
    status: Status = Status()


@dataclass(frozen=True)
class Live:
    """One RayService, and what runs of it."""

    service: LiveService
    clusters: dict[str, dict[str, Any]]
    """The spec of each RayCluster, by its name."""
    kubectl: tuple[str, ...]
    """The command with its namespace, and with its context where one was named."""
    serve: dict[str, Any] | None = None
    """http_options and proxy_location of the active RayCluster's Serve."""
    unread: str = ""
    """Reason for which `serve` is None."""

    @property
    def active(self) -> str:
        return self.service.status.active_service_status.ray_cluster_name

    @property
    def pending(self) -> str:
        return self.service.status.pending_service_status.ray_cluster_name


def read(namespace: str, context: str = "") -> Iterator[Live]:
    """Each RayService of the namespace. Raises Unreachable."""
    options = ("-n", namespace, *(("--context", context) if context else ()))
    try:
        items = json.loads(kubectl.run("get", KINDS, *options, "-o", "json"))["items"]
        services = [LiveService.model_validate(one) for one in items if one["kind"] == "RayService"]
    except KubectlFailed as error:
        raise Unreachable(_explained(str(error))) from error
    except (ValueError, LookupError, TypeError) as error:
        raise Unreachable(one_line(f"what kubectl prints of {KINDS} cannot be read: {error}")) from error
    if not services:
        raise Unreachable(f"there is no RayService in the namespace {namespace}: name another by --namespace")
    clusters = {one["metadata"]["name"]: one for one in items if one["kind"] == "RayCluster"}
    specs = {name: one["spec"] for name, one in clusters.items()}
    for service in services:
        active = clusters.get(service.status.active_service_status.ray_cluster_name)
        serve, unread = _serve(active, options) if active else (None, "")
        yield Live(service, specs, ("kubectl", *options), serve, unread)


def one_line(text: str) -> str:
    """The text without line breaks, and its middle left out where it is long: what a cluster says may be anything."""
    line = " ".join(text.split())
    return line if len(line) <= BEGIN + END else f"{line[:BEGIN]} ... {line[-END:]}"


def _explained(sentence: str) -> str:
    if "the server doesn't have a resource type" in sentence:
        return "the cluster knows no RayServices: install KubeRay (docs/kubernetes/index.md)"
    return one_line(sentence)


def _serve(cluster: dict[str, Any], options: tuple[str, ...]) -> tuple[dict[str, Any] | None, str]:
    """Options with which Serve in the head of this RayCluster runs, or why they are unknown."""
    try:
        head = cluster["status"]["head"]["podName"]
        container = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"]
        return dict(json.loads(kubectl.run("exec", *options, head, "-c", container, "--", "python", "-c", SERVE))), ""
    except KubectlFailed as error:
        return None, str(error)
    except LookupError:
        return None, "the RayCluster has no head"
    except (ValueError, TypeError) as error:
        return None, f"what its head prints cannot be read: {error}"
