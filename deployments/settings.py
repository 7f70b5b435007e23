"""The base of every settings section: frozen, unknown keys refused, each field documented by its docstring."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    RENAMED: ClassVar[dict[str, str]] = {}
    """Settings that were removed, and the full names of their successors."""

    @model_validator(mode="before")
    @classmethod
    def _names_the_successor(cls, values: Any) -> Any:
        for old, new in cls.RENAMED.items():
            if isinstance(values, dict) and old in values:
                raise ValueError(f"the setting {old} is now {new}")
        return values
