"""Rules: serveConfigV2 holds only fields and values that Serve and the app understand.

KubeRay does not read it, and Serve drops unknown fields.
"""

import contextlib
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from deployments.nearest import question
from kuberay import app
from kuberay.doctor import schema
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import ERROR, NOTE, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.resource_requests import deployments

_AMOUNTS = TypeAdapter(dict[str, Annotated[float, Field(ge=0)]])
SHIPPED = Path(__file__).parents[3] / "deployments"
SECRET = re.compile(r"secret|password|passwd|token|api_?key|credential", re.IGNORECASE)


@rule(
    "SG201",
    "Serve accepts `serveConfigV2`",
    "Write it as Ray Serve's config file has it.",
    first=True,
)
def serve_accepts_the_config(service: Service) -> Iterator[Finding]:
    own = serve_accepts_the_config
    try:
        content = service.config
        if not isinstance(content, dict):
            yield service.finding(own, SERVE_CONFIG, "is not a mapping")
            return
        from ray.serve.config import AutoscalingConfig  # it takes a second
        from ray.serve.schema import ServeDeploySchema

        ServeDeploySchema.model_validate(content)
        # The schema takes any mapping in these two fields, and Serve reads them later.
        for application in content["applications"]:
            for deployment in application.get("deployments") or []:
                AutoscalingConfig.model_validate(deployment.get("autoscaling_config") or {})
                _AMOUNTS.validate_python((deployment.get("ray_actor_options") or {}).get("resources") or {})
    except yaml.YAMLError as error:
        yield service.finding(own, SERVE_CONFIG, f"is not YAML: {' '.join(str(error).split())}")
    except ValidationError as error:
        for wrong in error.errors():
            yield service.finding(own, f"{SERVE_CONFIG}: {schema.path(wrong['loc'])}", f"Serve refuses it: {wrong['msg']}")


@rule(
    "SG202",
    "Serve knows every key of its config",
    "Write the key as Serve has it: an unknown one is dropped silently.",
)
def no_key_is_unknown(service: Service) -> Iterator[Finding]:
    from ray.serve.schema import ServeDeploySchema

    for path, names in _unknown(service.config, ServeDeploySchema, ()):
        sentence = f"Serve knows no {path[-1]} there, and would drop it silently{question(str(path[-1]), names)}"
        yield service.finding(no_key_is_unknown, f"{SERVE_CONFIG}: {schema.path(path)}", sentence)


def _unknown(value: Any, annotation: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Iterable[str]]]:
    """Paths of the keys that no model has, and its keys there. Only models are searched: args may hold anything."""
    model = next((one for one in _flat(annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, annotation, (*path, index))
    elif isinstance(value, dict) and model is not None:
        for key, item in value.items():
            if key in model.model_fields:
                yield from _unknown(item, model.model_fields[key].annotation, (*path, key))
            else:
                yield (*path, key), model.model_fields


def _flat(annotation: Any) -> Iterator[Any]:
    """The annotation and its parts, at any depth."""
    yield annotation
    for argument in typing.get_args(annotation):
        yield from _flat(argument)


@rule(
    "SG204",
    "the app has every deployment that the config names",
    "Use the deployments' own names.",
)
def the_app_has_these_deployments(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        names = deployments(application)
        for index, deployment in enumerate(application.get("deployments") or []):
            name = deployment["name"]
            if names and name not in names:
                field = f"{SERVE_CONFIG}: applications[{number}].deployments[{index}].name"
                sentence = f"{application['import_path']} has no {name}, only {', '.join(names)}: Serve would refuse it all"
                yield service.finding(the_app_has_these_deployments, field, sentence)


@rule(
    "SG203",
    "the app can be imported",
    "Fix `import_path`, or run the doctor where the app's code is.",
)
def the_app_can_be_imported(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        try:
            app.load(application["import_path"])
        except Exception as error:  # of any kind, from the module
            sentence, severity = f"{application['import_path']} cannot be imported: {error}", ERROR
            if not service.is_ours or (application.get("runtime_env") or {}).keys() & {"working_dir", "py_modules"}:
                sentence, severity = (
                    f"{application['import_path']} is not here, so the doctor cannot judge its deployments: {error}",
                    NOTE,
                )
            yield service.finding(
                the_app_can_be_imported, f"{SERVE_CONFIG}: applications[{number}].import_path", sentence, severity
            )


def _model_libraries(import_path: str) -> tuple[str, ...]:
    """The model libraries that importing the app loads. Where this process has some, a fresh interpreter tells whose, in seconds."""
    with contextlib.suppress(Exception):  # a rule of its own reports it
        app.load(import_path)
    return () if sys.modules.keys().isdisjoint(app.MODEL_LIBRARIES) else app.model_libraries(import_path)


@rule(
    "SG205",
    "importing the app loads no model library",
    "Import the library inside the replica: Serve imports the app in the head.",
)
def the_app_loads_no_model_library(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        loaded = _model_libraries(application["import_path"])
        if loaded:
            sentence = (
                f"importing {application['import_path']} loads {', '.join(loaded)}, which the head's image lacks, and Serve "
                "imports the app there: import it inside the replica"
            )
            field = f"{SERVE_CONFIG}: applications[{number}].import_path"
            yield service.finding(the_app_loads_no_model_library, field, sentence)


@rule(
    "SG206",
    "the app accepts its `args`",
    "Write them as docs/settings.md has them.",
)
def the_settings_accept_the_args(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        try:
            app.build(application)
        except ValidationError as error:
            for wrong in error.errors():
                field = f"{SERVE_CONFIG}: applications[{number}].args.{schema.path(wrong['loc'])}"
                yield service.finding(the_settings_accept_the_args, field, f"the app refuses it: {wrong['msg']}")
        except Exception:  # of the import: a rule of its own reports it
            continue


@rule(
    "SG207",
    "a `runtime_env` holds no secret",
    "Use it from a Secret in the pod's `env`.",
)
def no_secret_is_in_a_runtime_env(service: Service) -> Iterator[Finding]:
    for path, value in _leaves(service.config, ()):
        if "runtime_env" in path[:-1] and SECRET.search(str(path[-1])) and value:
            sentence = (
                "Ray shows a runtime_env to every reader of the application's state: take it from a Secret in the pod's env"
            )
            yield service.finding(no_secret_is_in_a_runtime_env, f"{SERVE_CONFIG}: {schema.path(path)}", sentence)


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value
