"""Rules: serveConfigV2 says only what Serve and the app understand.

KubeRay does not look into it, and Serve drops what it does not know.
"""

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from kuberay.doctor.manifest import Finding, Rule, Service
from kuberay.doctor.resource_requests import build, deployments, load, model_libraries

FIELD = "spec.serveConfigV2"
_AMOUNTS = TypeAdapter(dict[str, Annotated[float, Field(ge=0)]])
SHIPPED = Path(__file__).parents[2] / "deployments"
SECRET = re.compile(r"secret|password|passwd|token|api_?key|credential", re.IGNORECASE)


def serve_accepts_the_config(service: Service) -> Iterator[Finding]:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    rule = serve_accepts_the_config
    try:
        content = service.config
        if not isinstance(content, dict):
            yield service.finding(rule, FIELD, "is not a mapping")
            return
        ServeDeploySchema.model_validate(content)
        # What that takes as any mapping, and Serve reads later.
        for given in (given for application in content["applications"] for given in application.get("deployments") or []):
            AutoscalingConfig.model_validate(given.get("autoscaling_config") or {})
            _AMOUNTS.validate_python((given.get("ray_actor_options") or {}).get("resources") or {})
    except yaml.YAMLError as error:
        yield service.finding(rule, FIELD, f"is not YAML: {' '.join(str(error).split())}")
    except ValidationError as error:
        for wrong in error.errors():
            yield service.finding(rule, f"{FIELD}: {_path(wrong['loc'])}", f"Serve refuses it: {wrong['msg']}")


def no_key_is_unknown(service: Service) -> Iterator[Finding]:
    from ray.serve.schema import ServeDeploySchema

    for path in _unknown(service.config, ServeDeploySchema, ()):
        sentence = f"Serve knows no {path[-1]} there, and would drop it without a word"
        yield service.finding(no_key_is_unknown, f"{FIELD}: {_path(path)}", sentence)


def _unknown(value: Any, annotation: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Paths of the keys that are in no model; what is no model, such as args, may hold anything."""
    model = next((one for one in _flat(annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, annotation, (*path, index))
    elif isinstance(value, dict) and model is not None:
        for key, item in value.items():
            if key in model.model_fields:
                yield from _unknown(item, model.model_fields[key].annotation, (*path, key))
            else:
                yield (*path, key)


def _flat(annotation: Any) -> Iterator[Any]:
    """The annotation and all that it is made of."""
    yield annotation
    for argument in typing.get_args(annotation):
        yield from _flat(argument)


def the_app_has_these_deployments(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        names = deployments(application)
        for index, given in enumerate(application.get("deployments") or []):
            if names and given["name"] not in names:
                field = f"{FIELD}: applications[{number}].deployments[{index}].name"
                sentence = (
                    f"{application['import_path']} has no {given['name']}, only {', '.join(names)}: Serve would refuse it all"
                )
                yield service.finding(the_app_has_these_deployments, field, sentence)


def the_app_can_be_imported(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        try:
            load(application["import_path"])
        except Exception as error:  # whatever the module raises
            sentence = f"{application['import_path']} cannot be imported: {error}"
            yield service.finding(the_app_can_be_imported, f"{FIELD}: applications[{number}].import_path", sentence)


def the_app_loads_no_model_library(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        loaded = model_libraries(application["import_path"])
        if loaded:
            sentence = (
                f"importing {application['import_path']} loads {', '.join(loaded)}, which the head's image does not have, and "
                "there Serve imports it: import it inside the replica"
            )
            field = f"{FIELD}: applications[{number}].import_path"
            yield service.finding(the_app_loads_no_model_library, field, sentence)


def the_settings_accept_the_args(service: Service) -> Iterator[Finding]:
    for number, application in enumerate(service.config["applications"]):
        try:
            build(application)
        except ValidationError as error:
            for wrong in error.errors():
                field = f"{FIELD}: applications[{number}].args.{_path(wrong['loc'])}"
                yield service.finding(the_settings_accept_the_args, field, f"the app refuses it: {wrong['msg']}")
        except Exception:  # the import's, which a rule of its own reports
            continue


def no_secret_is_in_a_runtime_env(service: Service) -> Iterator[Finding]:
    for path, value in _leaves(service.config, ()):
        if "runtime_env" in path[:-1] and SECRET.search(str(path[-1])) and value:
            sentence = (
                "Ray shows a runtime_env to whoever asks for the application's state: take it from a Secret in the pod's env"
            )
            yield service.finding(no_secret_is_in_a_runtime_env, f"{FIELD}: {_path(path)}", sentence)


def the_job_fetches_the_models(service: Service) -> Iterator[Finding]:
    """Where there is a Job: images may carry the weights instead. Its containers are called as the rooms are."""
    jobs = [document.content for document in service.beside if document.content.get("kind") == "Job"]
    containers = [container for job in jobs for container in job["spec"]["template"]["spec"]["containers"]]
    fetched = {container["name"]: [*container.get("command", []), *container.get("args", [])] for container in containers}
    for number, application in enumerate(service.config["applications"]):
        try:
            settings = load(application["import_path"]).settings
            rooms = dict(settings.model_validate(application.get("args") or {})) if settings else {}
        except Exception:  # which rules of their own report
            continue
        for room, section in rooms.items():
            model = getattr(section, "model", None)
            if not jobs or not isinstance(model, str) or (room not in fetched and Path(model).is_relative_to(SHIPPED)):
                continue
            if model not in fetched.get(room, []):
                field = f"{FIELD}: applications[{number}].args.{room}.model"
                sentence = (
                    f"it is {json.dumps(model)}, and the Job beside it does not fetch that for {room}: the workers cannot either"
                )
                yield service.finding(the_job_fetches_the_models, field, sentence)


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _path(parts: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


RULES: tuple[Rule, ...] = (
    no_key_is_unknown,
    the_app_can_be_imported,
    the_app_has_these_deployments,
    the_app_loads_no_model_library,
    the_settings_accept_the_args,
    no_secret_is_in_a_runtime_env,
    the_job_fetches_the_models,
)
