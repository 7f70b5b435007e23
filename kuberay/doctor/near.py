"""Names of objects that are meant to be the same, and differ by a slip."""

import difflib
import re
from collections.abc import Iterable

LIKE = 0.7
"""Least likeness of two parts of a name. `keys` and `redis` have 0.4, `weights` and `wieghts` 0.86."""


def near(name: str, names: Iterable[str], unused: Iterable[str] = ()) -> str:
    """Return the name that is meant; nothing where none is near. Of the unused ones, one with a word more or less is near too."""
    others = [one for one in dict.fromkeys(names) if one != name]
    found = [one for one in others if _is_slip(name, one)]
    found += [one for one in unused if one in others and _has_a_word_more(name, one)]
    return max(found, key=lambda one: difflib.SequenceMatcher(None, name, one).ratio(), default="")


def _is_slip(name: str, other: str) -> bool:
    """Whether a letter or two of one word differ: two names of `a-keys` and `a-redis` share most letters, and are two things."""
    if _plain(name) == _plain(other):
        return True
    words, others = _words(name), _words(other)
    if len(words) != len(others):
        return difflib.SequenceMatcher(None, _plain(name), _plain(other)).ratio() >= 0.94
    differing = [(one, another) for one, another in zip(words, others, strict=True) if one != another]
    return len(differing) == 1 and _like(*differing[0])


def _like(one: str, other: str) -> bool:
    if re.sub(r"\d+", "", one) == re.sub(r"\d+", "", other):
        return False  # `v1` and `v2`, or the digests of two versions
    return difflib.SequenceMatcher(None, one, other).ratio() >= LIKE


def _has_a_word_more(name: str, other: str) -> bool:
    one, another = set(_words(name)), set(_words(other))
    return bool(one and another) and (one < another or another < one)


def _words(name: str) -> list[str]:
    return re.split(r"[-._]+", name.lower())


def _plain(name: str) -> str:
    return re.sub(r"[-._]+", "", name.lower())
