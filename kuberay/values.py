"""Values of one installation, from a YAML file: `sonograph render PROFILE --values my.yaml`. The rest is the profile's."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, ValidationError

from deployments.settings import Section
from graphs.settings import Settings
from kuberay.profiles import NAME, Profile
from kuberay.worker_groups import Deployment, Group

type Label = Annotated[str, Field(pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=37)]
"""A name in Kubernetes. KubeRay takes 47 characters, ten of them for the candidate."""
type Cpus = Annotated[float, Field(gt=0, le=1000)]
type Seconds = Annotated[float, Field(ge=0, le=86_400)]


class HeadValues(Section):
    cpu_request: Cpus | None = None
    """CPUs that Kubernetes keeps for the head, without the autoscaler beside it."""
    memory_gib: int | None = Field(default=None, ge=1)
    """Memory of the head, in GiB."""


class GroupValues(Section):
    """A worker group. Its pods hold one replica each of its deployments."""

    min_replicas: int | None = Field(default=None, ge=1)
    """Replicas without load."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Replicas under load; an update starts further ones, each in a pod of its own."""
    cpus: int | None = Field(default=None, ge=1)
    """CPUs of a replica in Ray, and its torch threads; for a group of one deployment."""
    cpu_request: Cpus | None = None
    """CPUs that Kubernetes keeps for a pod: by default those of its replicas, and 0.25."""
    memory_gib: int | None = Field(default=None, ge=1)
    """Memory of a pod, in GiB."""
    upscale_delay_s: Seconds | None = None
    """Time that load lasts before Serve adds replicas, in seconds."""
    downscale_delay_s: Seconds | None = None
    """Time without load before Serve ends replicas, in seconds."""


class Values(Section):
    name: Label = NAME
    """Name of the RayService and of its Serve application; the Service of requests is NAME-serve-svc."""
    namespace: Label = NAME
    """Namespace of all objects."""
    registry: str = ""
    """Registry and folder of the images; the option `--registry` precedes it."""
    head: HeadValues = Field(default_factory=HeadValues)
    """The head."""
    groups: dict[str, GroupValues] = Field(default_factory=dict)
    """Worker groups by name."""
    idle_timeout_s: int | None = Field(default=None, ge=1, le=86_400)
    """Time after which the autoscaler ends a pod without a replica, in seconds."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The service's settings (docs/settings.md); they are added to the profile's, section by section."""

    def applied_to(self, profile: Profile) -> Profile:
        """Return the profile with these values. Raises ValueError, whose sentences name each wrong value."""
        changed = replace(
            profile,
            service=self.name,
            namespace=self.namespace,
            args=_merged(profile.args, self.settings),
            head_cpu=self.head.cpu_request or profile.head_cpu,
            head_memory_gib=self.head.memory_gib or profile.head_memory_gib,
            idle_timeout_s=self.idle_timeout_s or profile.idle_timeout_s,
        )
        _validated(Settings, changed.args, "settings.")
        known = [group.name for group in changed.groups]
        for name in self.groups:
            if name not in known:
                raise ValueError(f"groups.{name}: there is no such group in the profile {profile.name}{_nearest(name, known)}")
        adjusted = replace(changed, adjust=self._adjust)
        _ = adjusted.groups  # refuses wrong sizes here
        return adjusted

    def _adjust(self, group: Group) -> Group:
        values = self.groups.get(group.name, GroupValues())
        if values.cpus and len(group.deployments) > 1:
            raise ValueError(f"groups.{group.name}.cpus: the group has several deployments, whose CPUs the profile states")
        own = values.model_dump(exclude_none=True)
        of_pod = {name: own.pop(name) for name in ("cpu_request", "memory_gib") if name in own}
        deployments = tuple(replace(deployment, **own) for deployment in group.deployments)
        for deployment in deployments:
            if deployment.min_replicas > deployment.max_replicas:
                raise ValueError(f"groups.{group.name}: min_replicas is above max_replicas ({_of(deployment)})")
        return replace(group, deployments=deployments, **of_pod)


def read(path: Path) -> Values:
    """Return the values in a YAML file. Raises ValueError, whose sentences name each wrong value and the key that was meant."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content or {}, dict):
        raise ValueError(f"{path}: it has to be a mapping, such as `namespace: pictures`")
    return _validated(Values, content or {})


def _validated[Model: Section](model: type[Model], content: Mapping[str, Any], prefix: str = "") -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ValueError("; ".join(f"{prefix}{sentence}" for sentence in _sentences(model, error))) from error


def _sentences(model: type[Section], error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        path = ".".join(map(str, one["loc"]))
        if one["type"] == "extra_forbidden":
            known = _fields(model, one["loc"][:-1])
            yield f"{path}: there is no such key{_nearest(str(one['loc'][-1]), known)}"
        else:
            yield f"{path or 'values'}: {one['msg'].removeprefix('Value error, ')}"


def _fields(section: Any, path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at `path`, below `section`; the name of a group in it is no key."""
    for part in path:
        if field := section.model_fields.get(part):
            (*_, section) = get_args(field.annotation) or (field.annotation,)
    return list(getattr(section, "model_fields", {}))


def _nearest(word: str, known: list[str]) -> str:
    """Return the known key that was probably meant, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else f", only {', '.join(known)}" if known else ""


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(base[key], value) for key, value in values.items() if _mapping(value) and _mapping(base.get(key))}
    return {**base, **values, **both}


def _mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _of(deployment: Deployment) -> str:
    return f"{deployment.min_replicas} and {deployment.max_replicas}"
