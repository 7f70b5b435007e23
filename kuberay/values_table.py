"""The table of values in docs/kubernetes/values.md: each value with its default and its meaning, from the schema's docstrings."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kuberay.pod_values import PodValues
from kuberay.profiles import PROFILES
from kuberay.values import Values

OF_PROFILE = "the profile's"
"""Default of a value that a profile states."""


def table() -> str:
    stated = {name for profile in PROFILES.values() for name in _stated(Values, profile.values.model_dump(exclude_unset=True))}
    rows = [f"| `{name}` |{_default(name, field, stated)}| {_meaning(field)} |" for name, field in fields(Values)]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows]) + "\n"


def fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Name and field of each value: GROUP and MODEL stand for any. What every kind of pods takes comes once, at `pods`."""
    of_pods = PodValues.model_fields if issubclass(section, PodValues) and section is not PodValues else ()
    for name, field in section.model_fields.items():
        inner, place = _below(field, prefix + name)
        if name not in of_pods and (inner is None or place.endswith("[]")):
            yield prefix + name, field
        if inner:
            yield from fields(inner, f"{place}.")


def _below(field: FieldInfo, name: str) -> tuple[type[BaseModel] | None, str]:
    """The section that a field holds, alone, by name or in a list, and how its place is written; None for a value."""
    annotation: Any = field.annotation
    last = (get_args(annotation) or (annotation,))[-1]
    if not (isinstance(last, type) and issubclass(last, BaseModel)):
        return None, name
    if last is annotation:
        return last, name
    above = name.replace("groups.GROUP.models", "groups.all.models")  # no other group has several models
    return last, f"{name}[]" if name == "nodes" else f"{above}.{name.rpartition('.')[2].removesuffix('s').upper()}"


def _stated(section: type[BaseModel], content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Names of the values that the content has."""
    for name, value in content.items():
        inner, place = _below(section.model_fields[name], prefix + name)
        if inner is None or place.endswith("[]"):
            yield prefix + name
        if inner:
            parts = [value] if place == prefix + name else value if isinstance(value, list) else value.values()
            for part in parts:
                yield from _stated(inner, part, f"{place}.")


def _default(name: str, field: FieldInfo, stated: set[str]) -> str:
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    if name in stated:
        return f" {OF_PROFILE} "
    if isinstance(default, bool) or default not in (None, "", [], {}):
        return f" `{default if isinstance(default, str) else json.dumps(default)}` "
    return " "


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|").removesuffix(".")
