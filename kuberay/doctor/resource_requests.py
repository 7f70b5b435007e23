"""The resources that each deployment requests of its pod: from the Serve config, and where that is silent from the app's code."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kuberay import app
from kuberay.doctor.manifest import Service, WorkerGroup


@dataclass(frozen=True)
class ResourceRequest:
    name: str
    field: str
    options: dict[str, Any]
    """ray_actor_options, as Serve merges them."""
    max_replicas: int
    surge: int
    """Replicas beyond those, during an update."""
    graceful_shutdown_s: float

    @property
    def pins(self) -> dict[str, float]:
        """Custom resources."""
        return {name: float(amount) for name, amount in (self.options.get("resources") or {}).items() if amount}

    @property
    def selector(self) -> dict[str, str]:
        return dict(self.options.get("label_selector") or {})

    @property
    def amounts(self) -> dict[str, float]:
        """Amounts of every resource that Ray counts."""
        cpus, gpus, memory = (float(self.options.get(name) or 0) for name in ("num_cpus", "num_gpus", "memory"))
        return {**self.pins, "CPU": cpus, "GPU": gpus, "memory": memory}


def resource_requests(service: Service) -> list[ResourceRequest]:
    """One for each deployment that the app has: a rule of its own finds the others."""
    found = []
    for number, application in enumerate(service.config["applications"]):
        code = deployments(application)
        for index, stated in enumerate(application.get("deployments") or []):
            if code and stated["name"] not in code:
                continue
            field = f"spec.serveConfigV2: applications[{number}].deployments[{index}]"
            found.append(_request(stated, code.get(stated["name"]), field))
    return found


def _request(stated: dict[str, Any], code: Any, field: str) -> ResourceRequest:
    """`stated` in the config, `code` the deployment of the app; Serve merges both."""
    own = dict(code.ray_actor_options or {}) if code is not None else {}
    default = app.configured(code, "graceful_shutdown_timeout_s") if code is not None else 20.0
    scaling, fixed = stated.get("autoscaling_config") or {}, stated.get("num_replicas", 1)
    most = int(scaling.get("max_replicas", 100 if fixed == "auto" else 1) if scaling or fixed == "auto" else fixed)
    surge = math.ceil(most * stated.get("max_surge_percent", 0) / 100)
    options = {"num_cpus": 1, **own, **(stated.get("ray_actor_options") or {})}
    return ResourceRequest(stated["name"], field, options, most, surge, stated.get("graceful_shutdown_timeout_s", default))


def worker_group(service: Service, request: ResourceRequest) -> WorkerGroup | None:
    """The one group that offers the deployment's custom resources; none where several do, or no group does."""
    pins = request.pins
    offering = [group for group in service.groups if pins and all(service.offers(group).get(name) for name in pins)]
    return offering[0] if len(offering) == 1 else None


def deployments(application: Mapping[str, Any]) -> dict[str, Any]:
    """The app's deployments with these args, by name; none where it cannot be built."""
    try:
        return app.deployments(app.build(application))
    except Exception:  # rules of their own report it
        return {}
