"""The name that was meant by a misspelt one, for the end of a sentence."""

import difflib
from collections.abc import Collection, Iterable

LIKENESS = 0.65
"""Least likeness of two names: `kye` and `key` have 0.67, `memory` and `memory_gib` 0.75."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the name that was meant; an empty one where none is near."""
    return next(iter(difflib.get_close_matches(name, list(names), 1, LIKENESS)), "")


def question(name: str, names: Iterable[str]) -> str:
    """Return `: did you mean NAME?`; nothing where none is near."""
    meant = nearest(name, names)
    return f": did you mean {meant}?" if meant else ""


def question_or_all(name: str, names: Collection[str]) -> str:
    """Return `; did you mean NAME?`, or all the names where none is near."""
    meant = nearest(name, names)
    return f"; did you mean {meant}?" if meant else f", only {', '.join(names)}" if names else ""
