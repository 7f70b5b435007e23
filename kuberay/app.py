"""The app that a Serve config names by its import path: built, and taken apart into its deployments."""

import functools
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from graphs.serve.application import bound_deployment, deployment_config

MODEL_LIBRARIES = ("torch", "diffusers", "transformers", "whisper", "ctranslate2", "tritonserver", "safetensors")


def build(application: Mapping[str, Any]) -> Any:
    """The app with the `args` of this entry of the config. Raises the import's error, or the settings' ValidationError."""
    return _built(application["import_path"], json.dumps(application.get("args") or {}))


@functools.cache
def _built(import_path: str, args: str) -> Any:
    builder = load(import_path)
    if not inspect.isfunction(builder):
        return builder
    (parameter,) = inspect.signature(builder, eval_str=True).parameters.values()
    settings, content = parameter.annotation, json.loads(args)
    typed = isinstance(settings, type) and issubclass(settings, BaseModel)
    return builder(settings.model_validate(content) if typed else content)


@functools.cache
def load(import_path: str) -> Any:
    """The app itself, or the function that builds it."""
    return getattr(importlib.import_module(_module(import_path)), import_path.replace(":", ".").rpartition(".")[2])


def _module(import_path: str) -> str:
    return import_path.replace(":", ".").rpartition(".")[0]


def deployments(app: Any) -> dict[str, Any]:
    """The deployments of a built app by name, those bound to others too."""
    deployment = bound_deployment(app)
    arguments = (*deployment.init_args, *deployment.init_kwargs.values())
    below = [deployments(one) for one in arguments if type(one) is type(app)]
    return {deployment.name: deployment} | {name: one for found in below for name, one in found.items()}


def configured(deployment: Any, name: str) -> Any:
    """Return what the code configures of a deployment, or the default of Serve; None without code."""
    return getattr(deployment_config(deployment), name, None)


def settings(application: Mapping[str, Any]) -> Any:
    """The settings of the app's ingress: its first argument. Raises the same as `build`, and for an app of another kind."""
    return bound_deployment(build(application)).init_args[0]


@functools.cache
def model_libraries(import_path: str) -> tuple[str, ...]:
    """The model libraries that importing the app's module loads, in a fresh interpreter; none where the import fails."""
    program = (
        "import importlib, json, sys; module, libraries, sys.path[:] = json.load(sys.stdin); importlib.import_module(module); "
        "print(json.dumps([name for name in libraries if name in sys.modules]))"
    )
    arguments = json.dumps([_module(import_path), MODEL_LIBRARIES, sys.path])
    ran = subprocess.run([sys.executable, "-c", program], input=arguments, capture_output=True, text=True, check=False)
    return tuple(json.loads(ran.stdout.splitlines()[-1])) if ran.returncode == 0 else ()
