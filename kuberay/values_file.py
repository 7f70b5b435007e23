"""A values file, read and applied to a profile: what is wrong in it is refused with its place, and the nearest key that exists."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from deployments.model_spec import specs
from deployments.nearest import question_or_all
from graphs.settings import Settings
from kuberay.profiles import Profile
from kuberay.values import GroupValues, Values
from kuberay.worker_groups import ALL, INGRESS, OF_DEPLOYMENTS, Group


class _Loader(yaml.SafeLoader):
    """YAML's own, but that it refuses a key that stands twice in a mapping: of both values the first would have no effect."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def read(path: Path) -> dict[str, Any]:
    """The content of a YAML file. Raises ValueError where it is none."""
    try:
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: it is nested too deep") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{path}: it has to be a mapping, such as `namespace: pictures`")
    return content or {}


def applied(content: Mapping[str, Any], profile: Profile) -> Profile:
    """The profile with these values. Raises ValueError, whose sentences name each wrong value and the key that was meant."""
    try:
        stated = _stated(content)
    except RecursionError as error:
        raise ValueError("an alias (*) stands in what it names, which has no end then") from error
    try:
        changed = profile.changed(content)
    except ValidationError as error:
        raise ValueError("; ".join(_sentences(error))) from error
    try:
        Settings.model_validate(changed.args)
    except ValidationError as error:
        raise ValueError("; ".join(f"settings.{sentence}" for sentence in _sentences(error))) from error
    known = [group.name for group in changed.groups]
    for name in stated.get("groups", ()):
        if name not in known:
            raise ValueError(f"groups.{name}: there is no such group in the profile {profile.name}{question_or_all(name, known)}")
    if unknown := "; ".join(_unknown(changed.values)):
        raise ValueError(unknown)
    return changed


def _unknown(values: Values) -> Iterator[str]:
    """Sentences on models and images of these names, of which there are none: their values would have no effect."""
    models = list(specs())
    of_all = values.groups.get(ALL, GroupValues()).models
    for place, names, kind, known in (
        ("weights.fetch", values.weights.fetch, "model", models),
        (f"groups.{ALL}.models", of_all, "model", models),
        ("digests", values.digests, "image", [INGRESS.name, *models, ALL, "redis"]),
    ):
        yield from (
            f"{place}.{name}: there is no such {kind}{question_or_all(name, known)}" for name in names if name not in known
        )


def _stated(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content without what it takes away."""
    return {key: _stated(value) if isinstance(value, Mapping) else value for key, value in content.items() if value is not None}


def _sentences(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        yield f"{'.'.join(map(str, one['loc'])) or 'values'}: {one['msg'].removeprefix('Value error, ')}"


def printed(profile: Profile) -> str:
    """All values of a profile as a YAML file, each with its meaning where it comes first."""
    values = profile.values.model_copy(
        update={"groups": {group.name: _effective(group, profile.values) for group in profile.groups}}
    )
    title = f"# All values of the profile {profile.name}. A file for --values needs those that differ; null takes a profile's own away.\n"
    return title + "".join(_printed(values, "", set()))


def _effective(group: Group, values: Values) -> GroupValues:
    """The values of a group, and what follows for it from the models' descriptions."""
    stated, (first, *others) = values.groups.get(group.name, GroupValues()), group.deployments
    sizes = {name: getattr(first, name) for name in OF_DEPLOYMENTS if name != "cpus" or not others}
    return stated.model_copy(
        update={**sizes, "cpu_request": group.reserved_cpu, "memory_gib": group.memory_gib, "gpu": group.gpu}
    )


def _printed(section: BaseModel, indent: str, explained: set[str]) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), field.alias or name
        meaning = " ".join((field.description or "").split())
        if meaning not in explained:
            explained.add(meaning)
            yield from (f"{indent}# {line}\n" for line in textwrap.wrap(meaning, 120 - len(indent)))
        if isinstance(value, BaseModel):
            yield f"{indent}{key}:\n"
            yield from _printed(value, f"{indent}  ", explained)
        elif isinstance(value, dict) and value and all(isinstance(one, BaseModel) for one in value.values()):
            yield f"{indent}{key}:\n"
            for each, one in value.items():
                yield f"{indent}  {each}:\n"
                yield from _printed(one, f"{indent}    ", explained)
        else:
            stated = section.model_dump(mode="json", by_alias=True, exclude_unset=True, include={name})
            plain = stated.get(key, value)  # a value by default is plain
            yield textwrap.indent(yaml.safe_dump({key: plain}, sort_keys=False, width=1000), indent)
