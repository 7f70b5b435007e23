"""Readers of YAML whose types nobody has checked: a value of another type counts as none."""

from decimal import Decimal
from typing import Any

from graphs.serve.autoscaler import parse_quantity


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """Return the mappings of a list, each with its index."""
    return [(index, one) for index, one in enumerate(value) if isinstance(one, dict)] if isinstance(value, list) else []


def at(value: Any, *keys: str) -> Any:
    """Return what stands below these keys; None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def texts(value: Any) -> dict[str, str]:
    return {str(key): str(one) for key, one in mapping(value).items()}


def whole(value: Any, default: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def amount(value: Any) -> Decimal | None:
    """Return the number of a quantity; None for one that is none."""
    try:
        found = parse_quantity(value)
    except (ValueError, ArithmeticError, TypeError, AttributeError):
        return None
    return found if found.is_finite() else None


def amounts(value: Any) -> dict[str, Decimal]:
    """Return the amounts of a mapping; those that are no quantities are left out."""
    return {str(name): found for name, one in mapping(value).items() if (found := amount(one)) is not None}
