"""Amounts as people read and write them: `1.5 CPUs`, `1.4 GiB`, `cpus=8,memory=32Gi`."""

import math
from typing import Any

GIB, MIB = 2**30, 2**20
MOST_CPUS, MOST_BYTES = 100_000.0, 2.0**60
"""Figures above are none."""


def cpus(number: float) -> str:
    """`0.4 CPUs`, `1 CPU`."""
    return f"{plain(number)} CPU{'' if plain(number) == '1' else 's'}"


def plain(number: float) -> str:
    """At most two digits behind the point."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def memory(number_of_bytes: float) -> str:
    """`960 MiB`, `1.4 GiB`."""
    if (mib := math.ceil(number_of_bytes / MIB)) < GIB // MIB:
        return f"{mib} MiB"
    return f"{number_of_bytes / GIB:.2f}".rstrip("0").rstrip(".") + " GiB"


def counted(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def is_sane(value: Any, greatest: float, least: float = 0) -> bool:
    """Return whether it is a number within these bounds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and least <= value <= greatest


def quantity(text: str) -> float | None:
    """The number of a quantity of Kubernetes, such as `500m` or `32Gi`; None for another text, or one that no node has."""
    from kuberay.doctor.untyped import amount  # loads pydantic

    found = amount(text)
    return float(found) if found is not None and 0 <= found <= MOST_BYTES else None
