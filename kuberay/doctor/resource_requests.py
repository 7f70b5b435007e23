"""The resources that each deployment requests of its pod: from the Serve config, and where that is silent from the app's code."""

import functools
import importlib
import inspect
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from kuberay.doctor.manifest import Service, WorkerGroup

MODEL_LIBRARIES = ("torch", "diffusers", "transformers", "whisper", "ctranslate2", "tritonserver", "safetensors")


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


@dataclass(frozen=True)
class App:
    """The app that an import path names."""

    builder: Any
    settings: type[BaseModel] | None


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
    default = code._deployment_config.graceful_shutdown_timeout_s if code is not None else 20.0
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
        return bound(build(application))
    except Exception:  # rules of their own report it
        return {}


def build(application: Mapping[str, Any]) -> Any:
    """The app, built with these args. Raises the import's error, or the settings' ValidationError."""
    return _built(application["import_path"], json.dumps(application.get("args") or {}))


@functools.cache
def _built(import_path: str, args: str) -> Any:
    app = load(import_path)
    return app.builder if app.settings is None else app.builder(app.settings.model_validate(json.loads(args)))


@functools.cache
def load(import_path: str) -> App:
    module, _, name = import_path.rpartition(":") if ":" in import_path else import_path.rpartition(".")
    builder = getattr(importlib.import_module(module), name)
    if not inspect.isfunction(builder):
        return App(builder, None)
    (parameter,) = inspect.signature(builder, eval_str=True).parameters.values()
    settings = parameter.annotation
    return App(builder, cast(type[BaseModel], settings))


def bound(application: Any) -> dict[str, Any]:
    deployment = application._bound_deployment
    arguments = (*deployment.init_args, *deployment.init_kwargs.values())
    below = [bound(one) for one in arguments if type(one) is type(application)]
    return {deployment.name: deployment} | {name: one for found in below for name, one in found.items()}


@functools.cache
def model_libraries(import_path: str) -> tuple[str, ...]:
    """The model libraries that importing the app's module loads, in a fresh interpreter; none where the import fails."""
    module = import_path.split(":")[0] if ":" in import_path else import_path.rpartition(".")[0]
    program = (
        "import importlib, json, sys; module, libraries, sys.path[:] = json.load(sys.stdin); importlib.import_module(module); "
        "print(json.dumps([name for name in libraries if name in sys.modules]))"
    )
    arguments = json.dumps([module, MODEL_LIBRARIES, sys.path])
    ran = subprocess.run([sys.executable, "-c", program], input=arguments, capture_output=True, text=True, check=False)
    return tuple(json.loads(ran.stdout.splitlines()[-1])) if ran.returncode == 0 else ()
