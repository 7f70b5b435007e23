"""A small installation: the profile `cpu` with one ingress, and models of known cost that sleep, so that three clusters fit two cores."""

from pathlib import Path
from typing import Any

from kuberay.profiles import CPU
from tests.kubernetes.installation import Installation
from tests.kubernetes.kubectl import Kubectl

SLOWER = 200.0
"""A recording of two segments takes Whisper 1.6 s: requests are under way when something ends."""
POD = {"cpu_request": 0.3}
VALUES: dict[str, Any] = {
    "head": {"cpu_request": 0.3},
    "groups": {
        "ingress": {"min_replicas": 1, "max_replicas": 1, **POD},
        "whisper": {"max_replicas": 2, "upscale_delay_s": 2, "downscale_delay_s": 20, **POD},
        "diffusion": {"max_replicas": 1, "cpus": 1, **POD},
    },
    "idle_timeout_s": 20,
    "weights": {"size_gib": 0},
    "monitoring": {"enabled": False},  # it needs the Prometheus operator
    "settings": {"whisper": {"max_batch": 2}, "http": {"deadline_s": 30}},
}


def small(kubectl: Kubectl, space: str, folder: Path, **values: Any) -> Installation:
    """Return an installation in this namespace, with further values, to be installed."""
    profile = CPU.changed({**VALUES, "namespace": space}).changed(values)
    return Installation(kubectl, profile, folder, _to_known_cost)


def _to_known_cost(service: dict[str, Any], config: dict[str, Any]) -> None:
    (application,) = config["applications"]
    application["import_path"] = "testing.known_cost.app:slow"
    application["args"]["slower"] = SLOWER
