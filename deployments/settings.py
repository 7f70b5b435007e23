"""The base of every settings section: frozen, unknown keys refused, each field documented by its docstring."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

FIELDS_SET = "__pydantic_fields_set__"


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    RENAMED: ClassVar[dict[str, str]] = {}
    """Settings that were removed, and the full names of their successors."""

    def __getstate__(self) -> dict[Any, Any]:
        """The same pickle in every process for the same settings, by which Serve knows an unchanged deployment: a set has no order."""
        state = super().__getstate__()
        return {**state, FIELDS_SET: sorted(state[FIELDS_SET])}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__({**state, FIELDS_SET: set(state[FIELDS_SET])})

    @model_validator(mode="before")
    @classmethod
    def _names_the_successor(cls, values: Any) -> Any:
        for old, new in cls.RENAMED.items():
            if isinstance(values, dict) and old in values:
                raise ValueError(f"the setting {old} is now {new}")
        return values
