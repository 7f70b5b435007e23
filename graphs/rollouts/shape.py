"""Check of a result's class, types and numbers: the candidate's result has to be one that the graph can go on with."""

import dataclasses
import math
from types import UnionType
from typing import Any, get_args, get_origin


def check_shape(expected: type, result: Any) -> None:
    """Raise ValueError unless the result is of the role's class, each field of its type, and each number finite."""
    _check(expected, result, expected.__name__)


def _check(expected: Any, value: Any, name: str) -> None:
    """`expected`: a class, a union of classes, or `tuple[C, ...]`; of any other generic type, its class is checked alone."""
    classes = get_args(expected) if isinstance(expected, UnionType) else (get_origin(expected) or expected,)
    if not any(_accepts(one, value) for one in classes):
        wanted = " or ".join(one.__name__ for one in classes)
        raise ValueError(f"{name} is of the class {type(value).__name__}, not {wanted}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, which is not finite")
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check(field.type, getattr(value, field.name), f"{name}.{field.name}")
    if isinstance(value, tuple):
        for index, one in enumerate(value):
            _check(get_args(expected)[0], one, f"{name}[{index}]")


def _accepts(accepted: type, value: Any) -> bool:
    """Whether a value is of a class; an int is a float (PEP 484), a bool is no int."""
    if isinstance(value, bool) and accepted is not bool:
        return False
    return isinstance(value, (int, float) if accepted is float else accepted)
