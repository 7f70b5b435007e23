"""Findings of the doctor, and the registry of its rules: each has a number, what it demands, and a remedy."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

PAGE = "docs/kubernetes/rules.md"
"""Page on which each rule has a heading, its number."""


class Severity(StrEnum):
    ERROR = "error"
    """Refused, or it never serves."""
    WARNING = "warning"
    """Risk of an outage or a loss while it serves."""
    NOTE = "note"
    """Against a custom of this project, or the doctor cannot tell."""


ERROR, WARNING, NOTE = Severity


@dataclass(frozen=True)
class Rule:
    number: str
    name: str
    demand: str
    """Sentence that holds in a healthy manifest."""
    remedy: str
    house: bool
    """Whether it is a rule of this project: a note for a RayService whose app is another's."""
    first: bool
    """Whether the others cannot read a manifest that it objects to."""
    examine: Callable[..., Any]

    @property
    def anchor(self) -> str:
        return f"{PAGE}#{self.number.lower()}"


REGISTRY: dict[str, Rule] = {}
"""The rules by the names of their functions, in the order of their registration."""


def rule[Examine: Callable[..., Any]](
    number: str, demand: str, remedy: str, *, house: bool = False, first: bool = False
) -> Callable[[Examine], Examine]:
    """Register a function that yields findings as the rule of this number. Raises ValueError where another one has it."""

    def register(examine: Examine) -> Examine:
        name = examine.__name__
        if name in REGISTRY or any(one.number == number for one in REGISTRY.values()):
            raise ValueError(f"{number} {name} is registered twice")
        REGISTRY[name] = Rule(number, name, demand, remedy, house, first, examine)
        return examine

    return register


@dataclass(frozen=True)
class Finding:
    file: Path
    field: str
    sentence: str
    rule: str
    severity: Severity = ERROR
    commands: tuple[str, ...] = ()
    """Commands that fix it, for a shell."""
    line: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{self.severity}: {place}: {self.field}: {self.sentence} [{self.number}]"

    @property
    def number(self) -> str:
        return REGISTRY[self.rule].number

    @property
    def remedy(self) -> str:
        """The remedy of its rule."""
        return REGISTRY[self.rule].remedy
