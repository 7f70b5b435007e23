"""The profiles: for each kind of cluster its values (profiles/*.yaml). An installation's own values go over a profile's."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from kuberay.values import Values
from kuberay.worker_groups import Group, Model, worker_groups

NAME = "sonograph"
"""Name of the RayService, the application, the namespace, where the values have no other."""
IMPORT_PATH = "graphs.voice_to_image:app"
PORT = 8000
KEYS = "/etc/sonograph"
"""Folder of the Secret NAME-keys in the ingress' pods. Its entry `keys` is the file of API keys; the Secret is optional."""
OTLP_HEADERS, OTLP_CERTIFICATE = f"{KEYS}/otlp-headers", f"{KEYS}/otlp-certificate"
"""Other entries of that Secret: the headers of traces, since a collector's key belongs into no manifest, and its authority."""
OTLP_FILES = {
    "OTEL_EXPORTER_OTLP_HEADERS": ("headers", OTLP_HEADERS),
    "OTEL_EXPORTER_OTLP_CERTIFICATE": ("certificate_file", OTLP_CERTIFICATE),
}
"""By the variable: the setting of `tracing` that it becomes elsewhere, and its file here."""
IMAGE_ROOT = "/opt/sonograph"
"""Folder of this project's files in its images."""
WEIGHTS = f"{IMAGE_ROOT}/share/sonograph"
"""Folder of the weights in an image: below the folder of its Python environment (deployments/paths.py)."""

DEADLINE_S = 120
"""Seconds that a request may take, where the settings do not say (docs/settings.md: `http.deadline_s`)."""

SETTLE_S = 5
"""Wait of a deleted pod before it drains: its removal from the Service races with its end, and requests still arrive."""
POD_START_S = 300
"""Time for a pod to start in place of a deleted one, its model loaded: Serve keeps the old replica for it."""


@dataclass(frozen=True)
class Times:
    """Timeouts that have to outlast each other, from one number: the seconds that a request may take."""

    deadline_s: int

    @property
    def graceful_shutdown_s(self) -> int:
        """Serve's limit for a replica that stops: for its requests, and for Triton's stop, which takes up to 8 s."""
        return self.deadline_s + 15

    @property
    def drain_s(self) -> int:
        """Ray's limit for a deleted pod: until its replicas are replaced elsewhere, and then until they have stopped."""
        return POD_START_S + self.graceful_shutdown_s

    @property
    def idle_s(self) -> int:
        """Longest wait of a pod for its requests, once the head is gone."""
        return self.deadline_s + 30

    @property
    def termination_s(self) -> int:
        """Kubernetes kills a deleted pod after this time. Ray's processes have 25 s to end after the drain."""
        return SETTLE_S + self.drain_s + 25

    @property
    def request_timeout_s(self) -> int:
        """Serve's proxy ends a request without an answer after this time: its ingress has died."""
        return self.deadline_s + 60

    @property
    def deletion_delay_s(self) -> int:
        """Time for which KubeRay keeps the old cluster after an upgrade."""
        return self.deadline_s + 90


AUTOSCALER_CPU = 0.5


def _models(args: dict[str, Any]) -> list[Model]:
    """The models that the app deploys with these settings, by the app itself."""
    from deployments.model_spec import specs  # here, since the app loads Ray
    from kuberay import app

    names = app.deployments(app.build({"import_path": IMPORT_PATH, "args": args}))
    return [(specs()[name], specs()[name].settings.model_validate(args.get(name, {}))) for name in names if name in specs()]


@dataclass(frozen=True)
class Profile:
    name: str
    values: Values
    find_models: Callable[[dict[str, Any]], list[Model]] = field(default=_models, repr=False)
    """Function that finds the models that are deployed with these settings."""

    def changed(self, content: Mapping[str, Any]) -> "Profile":
        """This profile with further values, section by section; None takes a profile's own away. Raises ValidationError."""
        own = self.values.model_dump(exclude_unset=True, by_alias=True)
        return replace(self, values=Values.model_validate(merged(own, content)))

    @property
    def service(self) -> str:
        """Name of the RayService and of its application."""
        return self.values.name

    @property
    def namespace(self) -> str:
        return self.values.namespace

    @property
    def candidate(self) -> str:
        """Name of the second RayService and its application, beside the first in the namespace."""
        return f"{self.service}-candidate"

    @property
    def redis_secret(self) -> str:
        return self.values.redis.secret or f"{self.service}-redis"

    @property
    def keys_secret(self) -> str:
        return f"{self.service}-keys"

    @property
    def has_weights(self) -> bool:
        """Whether a volume holds the models' weights; else the images do."""
        return bool(self.values.weights.size_gib or self.values.weights.claim)

    @property
    def args(self) -> dict[str, Any]:
        """The application's settings."""
        return self.values.settings

    @property
    def times(self) -> Times:
        return Times(math.ceil(float(self.args.get("http", {}).get("deadline_s", DEADLINE_S))))  # Kubernetes takes whole seconds

    @property
    def models(self) -> list[Model]:
        """The deployed models: in the order of the values' groups, then the others."""
        named = [model for name, group in self.values.groups.items() for model in (group.models or [name])]
        order = {name: number for number, name in enumerate(named)}
        return sorted(self.find_models(self.args), key=lambda model: order.get(model[0].name, len(order)))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The worker groups: the ingress' and the models'. Raises ValueError for values that no group can have."""
        return worker_groups(self.values, self.models)

    def with_tracing(self, tracing: Mapping[str, Any]) -> "Profile":
        """This profile with further settings of the section `tracing`; its own stay. Headers and certificates become files."""
        section = {name: value for name, value in tracing.items() if name != "headers"}
        if "headers" in tracing:
            section["headers_file"] = OTLP_HEADERS
        if "certificate_file" in tracing:
            section["certificate_file"] = OTLP_CERTIFICATE
        return self.changed({"settings": {"tracing": {**section, **self.args.get("tracing", {})}}})

    def group_of(self, deployment: str) -> Group:
        (group,) = (group for group in self.groups if any(one.name == deployment for one in group.deployments))
        return group


def merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one: values over the base, mapping by mapping; None takes the base's away, if there is one."""
    both = {key: merged(_mapping(base.get(key)), value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in {**base, **both}.items() if value is not None}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


FOLDER = Path(__file__).with_suffix("")


def _read(file: Path) -> Profile:
    return Profile(file.stem, Values.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))))


PROFILES = {file.stem: _read(file) for file in sorted(FOLDER.glob("*.yaml"))}
CPU, MIG, ONE_GPU, SMALL_GPUS, SPOT = (PROFILES[name] for name in ("cpu", "mig", "one-gpu", "small-gpus", "spot"))
