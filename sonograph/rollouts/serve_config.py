"""Changes of Serve's config for a rollout: of the running one, or of a RayService's. Nothing that is given is changed."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from deployments.model_spec import specs
from sonograph.errors import Failed
from sonograph.rollouts.options import IMPORT_PATH

OPTIONS = ("proxy_location", "http_options", "grpc_options", "target_capacity")
"""Options of the whole config that Serve reports."""
REPLICAS = ("num_replicas", "autoscaling_config")


@dataclass(frozen=True)
class Candidate:
    """A candidate, as the command line describes it."""

    stage: str
    application: str
    """Name of its Serve application."""
    changes: dict[str, Any]
    """Settings that differ from the stable model's."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of its actors that differ from the stable model's: `num_cpus`, `num_gpus`, `resources`."""
    group: str = ""
    """Worker group with an image of its own, which has a custom resource of this name."""
    replicas: int = 1
    import_path: str = IMPORT_PATH


def running(details: dict[str, Any]) -> dict[str, Any]:
    """The config that Serve runs, from its REST API's answer, without what is being removed. Raises Failed where one has none."""
    kept = {name: one for name, one in details["applications"].items() if one["status"] != "DELETING"}
    imperative = [name for name, application in kept.items() if not application.get("deployed_app_config")]
    if imperative:
        raise Failed(
            f"the application {imperative[0]} was started without a config: start it by `sonograph serve` or `serve deploy`"
        )
    options = {name: details[name] for name in OPTIONS if details.get(name) is not None}
    return {**options, "applications": [deepcopy(one["deployed_app_config"]) for one in kept.values()]}


def with_candidate(config: dict[str, Any], application: str, candidate: Candidate) -> dict[str, Any]:
    """Add the candidate's application, or replace the one of its name. Raises Failed where its settings are wrong.

    The stable model's settings and the options of its deployment are the base. `application`: the service's.
    """
    stable = of(config, application)
    spec = specs().get(candidate.stage)
    if spec is None:
        raise Failed(f"there is no stage {candidate.stage}: the models are {', '.join(specs())}")
    section = {**(stable.get("args") or {}).get(candidate.stage, {}), **candidate.changes}
    try:
        spec.section(section)
    except ValueError as error:
        raise Failed(f"the candidate's settings are wrong: {error}") from error
    added = {
        "name": candidate.application,
        "route_prefix": None,
        "import_path": candidate.import_path,
        "args": {"model": candidate.stage, "settings": section},
        **{name: deepcopy(stable[name]) for name in ("runtime_env", "logging_config") if stable.get(name)},
        "deployments": [_deployment(_deployment_of(stable, candidate.stage), candidate)],
    }
    return {**config, "applications": [*without(config, candidate.application)["applications"], added]}


def promoted(config: dict[str, Any], application: str, stage: str, candidate: str) -> dict[str, Any]:
    """Give the stable model the settings of the candidate's application, and its actors' options."""
    stable, added = deepcopy(of(config, application)), of(config, candidate)
    stable["args"] = {**(stable.get("args") or {}), stage: added["args"]["settings"]}
    options = added["deployments"][0].get("ray_actor_options")
    if options and options != _deployment_of(stable, stage).get("ray_actor_options"):
        others = [one for one in stable.get("deployments") or () if one["name"] != stage]
        stable["deployments"] = [*others, {**_deployment_of(stable, stage), "ray_actor_options": options}]
    return {**config, "applications": [stable if one["name"] == application else one for one in config["applications"]]}


def without(config: dict[str, Any], application: str) -> dict[str, Any]:
    """Remove an application."""
    return {**config, "applications": [one for one in config["applications"] if one["name"] != application]}


def of(config: dict[str, Any], application: str) -> dict[str, Any]:
    """An application's config. Raises Failed where there is none."""
    for one in config["applications"]:
        if one["name"] == application:
            return dict(one)
    names = ", ".join(one["name"] for one in config["applications"]) or "none"
    raise Failed(f"Serve has no application {application}, only {names}: is it the cluster of this service?")


def has(config: dict[str, Any], application: str) -> bool:
    return any(one["name"] == application for one in config["applications"])


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two applications have the same code, settings and options. Serve writes a few values differently, such as 1.0."""
    names = ("import_path", "args", "deployments")
    return all(one.get(name) == other.get(name) for name in names)


def _deployment_of(application: dict[str, Any], name: str) -> dict[str, Any]:
    found = (one for one in application.get("deployments") or () if one["name"] == name)
    return dict(next(found, {"name": name}))


def _deployment(stable: dict[str, Any], candidate: Candidate) -> dict[str, Any]:
    options = {"num_cpus": 1, **deepcopy(stable.get("ray_actor_options") or {})}
    if candidate.group:
        options.pop("label_selector", None)  # of the stable model's image
        options["resources"] = {candidate.group: 1}
    kept = {name: value for name, value in deepcopy(stable).items() if name not in REPLICAS}
    return {**kept, "num_replicas": candidate.replicas, "ray_actor_options": {**options, **candidate.options}}
