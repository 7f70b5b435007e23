"""The zero of a counter, which `rate()` and `increase()` need to see its first increase."""

from typing import Any


def begin(counter: Any, labels: dict[str, str]) -> None:
    """Export a counter of `ray.serve.metrics` at 0. Its `inc` refuses that, but neither its base nor Ray's exporter does (as of 2.60)."""
    counter._record(0.0, labels)
