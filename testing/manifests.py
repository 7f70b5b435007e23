"""Rendered manifests for the doctor's tests, with access to their parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kuberay.doctor.documents import LOADER, Document
from kuberay.doctor.examine import of_folder
from kuberay.doctor.finding import Finding
from kuberay.images import Images
from kuberay.manifest.disruption import disruption
from kuberay.manifest.monitoring import monitoring
from kuberay.manifest.network import network
from kuberay.manifest.quota import quota
from kuberay.manifest.rayservice import ray_service
from kuberay.manifest.redis import redis
from kuberay.manifest.route import Split, route
from kuberay.manifest.weights import weights
from kuberay.profiles import CPU, Profile

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
DIGEST = f"sha256:{'0' * 64}"


class Manifests:
    """One profile's documents, which tests change in place; `config` is serveConfigV2 as a mapping."""

    def __init__(self, profile: Profile = CPU) -> None:
        self._profile = profile
        self._images = images = Images(digests=dict.fromkeys(("redis", *(group.name for group in profile.groups)), DIGEST))
        self.service = _apart(ray_service(profile, images))
        self.beside = [_apart(one) for one in (*redis(profile, images), *weights(profile, images), *network(profile))]
        self.config: Any = load(self.service["spec"]["serveConfigV2"])

    @property
    def cluster(self) -> dict[str, Any]:
        return dict(self.service["spec"])["rayClusterConfig"]

    @property
    def head(self) -> dict[str, Any]:
        return self.cluster["headGroupSpec"]

    @property
    def application(self) -> dict[str, Any]:
        return self.config["applications"][0]

    def group(self, name: str) -> dict[str, Any]:
        return next(group for group in self.cluster["workerGroupSpecs"] if group["groupName"] == name)

    def container(self, name: str) -> dict[str, Any]:
        group = self.head if name == "head" else self.group(name)
        return group["template"]["spec"]["containers"][0]

    def deployment(self, name: str) -> dict[str, Any]:
        return next(one for one in self.application["deployments"] if one["name"] == name)

    def options(self, name: str) -> dict[str, Any]:
        return self.deployment(name)["ray_actor_options"]

    def pod(self, name: str) -> dict[str, Any]:
        return self.group(name)["template"]["spec"]

    def rename(self, name: str, other: str) -> None:
        """Rename the group, and the selector of its pods."""
        for spread in self.pod(name)["topologySpreadConstraints"]:
            spread["labelSelector"]["matchLabels"]["ray.io/group"] = other
        self.group(name)["groupName"] = other

    def requests(self, name: str) -> dict[str, Any]:
        return self.container(name)["resources"]["requests"]

    def scaling(self, name: str) -> dict[str, Any]:
        return self.deployment(name)["autoscaling_config"]

    def add_the_rest(self) -> None:
        """Add what else `sonograph render` writes beside the RayService."""
        kinds = {one["kind"] for one in self.beside}
        rest = [*disruption(self._profile), *monitoring(self._profile), *quota(self._profile)]
        self.beside += [one for one in rest if one["kind"] not in kinds]

    def object(self, kind: str, name: str = "") -> dict[str, Any]:
        """Return the first object beside the RayService of this kind, whose name ends so; what is rendered is added where it lacks."""
        if not any(one["kind"] == kind for one in self.beside):
            self.add_the_rest()
        return next(one for one in self.beside if one["kind"] == kind and one["metadata"]["name"].endswith(name))

    def spec(self, kind: str, name: str = "") -> dict[str, Any]:
        """Return the specification of the object."""
        return self.object(kind, name)["spec"]

    def split(self) -> dict[str, Any]:
        """Add the candidate and the route before both, and return the route's rule."""
        split = Split({"stable": 80, "candidate": 20}, self._images)
        (made,) = route(self._profile, split)
        self.beside += [ray_service(self._profile, split.images, candidate=True), made]
        return dict(made["spec"])["rules"][0]

    def gateway(self) -> dict[str, Any]:
        """Add a rendered Gateway, its redirect and the route to the service, and return the Gateway's specification."""
        profile = self._profile.changed({"route": {"gateway_class": "envoy", "hostnames": ["pictures.example.org"]}})
        gateway, *routes = route(profile)
        self.beside += [gateway, *routes]
        return dict(gateway["spec"])

    def add_env(self, name: str, value: str) -> None:
        """Add a variable to the head's container."""
        env = [one for one in self.container("head")["env"] if one["name"] != name]
        self.container("head")["env"] = [*env, {"name": name, "value": value}]

    def remove_env(self, name: str, variable: str) -> None:
        """Remove a variable of a group's container."""
        self.container(name)["env"] = [one for one in self.container(name)["env"] if one["name"] != variable]

    def documents(self) -> list[dict[str, Any]]:
        self.service["spec"]["serveConfigV2"] = (
            self.config if isinstance(self.config, str) else yaml.dump(self.config, Dumper=_DUMPER)
        )
        return [self.service, *self.beside]

    def findings(self) -> list[Finding]:
        return of_folder([Document(Path("rayservice.yaml"), document) for document in self.documents()])

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "all.yaml").write_text(yaml.dump_all(self.documents(), Dumper=_DUMPER))
        return folder


def load(text: str) -> Any:
    """Return the value of a text of YAML, read in C where PyYAML can: several times as fast."""
    return yaml.load(text, LOADER)


def load_all(text: str) -> list[Any]:
    return list(yaml.load_all(text, LOADER))


def _apart(document: dict[str, Any]) -> dict[str, Any]:
    """A copy whose parts are no longer those of other objects: the renderer shares a security context among containers."""
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied


type Break = Callable[[Manifests], object]
