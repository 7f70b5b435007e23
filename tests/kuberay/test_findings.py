"""docs/kubernetes/tests.md: every finding has an entry, with tests that there are or the reason why there is none."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "kubernetes" / "tests.md").read_text(encoding="utf-8")
ENTRIES = [
    re.fullmatch(r"\*\*(\w+)\.\*\* (.+?) \*Fix:\* (.+?)(?: \*Shown by:\* (.+))?", " ".join(entry.split()))
    for entry in re.split("^- ", TEXT.split("\n## Findings of a review")[1], flags=re.MULTILINE)[1:]
]
FINDINGS = [tuple(entry.groups("")) for entry in ENTRIES if entry]
DECIDED = re.compile(r"decides|an installation's|^open:", re.IGNORECASE)
"""Words of a fix that no test can show, and of a fault that is not fixed."""


@functools.cache
def names(path: str) -> set[str]:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_finding_has_one_entry() -> None:
    assert all(ENTRIES)
    numbers = [f"F{n}" for n in range(1, 11)] + [f"M{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 8)]
    assert [number for number, *_ in FINDINGS] == numbers


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding[0])
def test_a_finding_is_shown_by_tests_that_there_are_or_says_why_by_none(finding: tuple[str, ...]) -> None:
    _, fault, fix, shown = finding
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)
    assert fault
    assert named or DECIDED.search(fix), "name a test, or who decides"
    assert shown.count("::") == len(named)
    for path, name in named:
        assert name in names(path), f"{path} has no {name}"
