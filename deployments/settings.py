"""The base of every settings section: frozen, unknown keys refused with the nearest one, each field documented by its docstring."""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from deployments.nearest import question_or_all

UNKNOWN = "extra_forbidden"
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

    @model_validator(mode="wrap")
    @classmethod
    def _names_the_nearest_key(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            found = error.errors()
            if all(one["type"] != UNKNOWN for one in found):
                raise
            names = [field.alias or name for name, field in cls.model_fields.items()]
            raise ValidationError.from_exception_data(cls.__name__, [_with_nearest(one, names) for one in found]) from None


def _with_nearest(error: ErrorDetails, names: list[str]) -> InitErrorDetails:
    """The error, with the nearest of these names where it refuses a key beside them."""
    if error["type"] != UNKNOWN:
        return InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"], ctx=error.get("ctx", {}))
    below = len(error["loc"]) > 1  # of another section, which has named it
    sentence = error["msg"] if below else f"there is no such key{question_or_all(str(error['loc'][0]), names)}"
    return InitErrorDetails(type=PydanticCustomError(UNKNOWN, sentence), loc=error["loc"], input=error["input"])
