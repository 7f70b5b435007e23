"""Label selectors: what they select of labels that are known in part, and how they are shown."""

from collections.abc import Callable
from typing import Any

from kuberay.doctor.untyped import mapping, mappings, texts


class AnyText(str):
    """A value that only the cluster knows, such as a random name."""

    __slots__ = ()


ANY = AnyText("*")


def selects(selector: Any, labels: dict[str, str], unknown: Callable[[str], bool] = lambda _: False) -> bool:
    """Return whether a label selector selects these labels. `unknown`: whether a label that is not among them may be there."""
    selector = mapping(selector)
    wanted = [(key, "In", [value]) for key, value in texts(selector.get("matchLabels")).items()]
    wanted += [
        (str(one.get("key")), str(one.get("operator")), _values(one)) for _, one in mappings(selector.get("matchExpressions"))
    ]
    return all(_matches(labels, unknown, *one) for one in wanted)


def _matches(labels: dict[str, str], unknown: Callable[[str], bool], key: str, operator: str, values: list[str]) -> bool:
    value = labels.get(key)
    if value is None and unknown(key):
        return True
    match operator:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "NotIn":
            return value is None or isinstance(value, AnyText) or value not in values
    return value is not None and (isinstance(value, AnyText) or value in values)


def _values(expression: dict[str, Any]) -> list[str]:
    values = expression.get("values")
    return list(map(str, values)) if isinstance(values, list) else []


def shown(selector: Any) -> str:
    """Return a selector in words, as kubectl takes it."""
    selector = mapping(selector)
    parts = [f"{key}={value}" for key, value in texts(selector.get("matchLabels")).items()]
    for _, one in mappings(selector.get("matchExpressions")):
        values = f" ({', '.join(_values(one))})" if one.get("values") else ""
        parts.append(f"{one.get('key')} {one.get('operator')}{values}")
    return ",".join(parts) or "everything"
