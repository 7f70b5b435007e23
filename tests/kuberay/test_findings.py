"""docs/kubernetes/tests.md: every finding has a row, with tests that there are or the reason why there is none."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "kubernetes" / "tests.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if re.match(r"\| [FML]\d", line)]
DECIDED = re.compile(r"decides|an installation's|^open:", re.IGNORECASE)
"""Words of a mend that no test can show, and of a fault that is not mended."""


@functools.cache
def names(path: str) -> set[str]:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_finding_has_one_row() -> None:
    numbers = [f"F{n}" for n in range(1, 11)] + [f"M{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 8)]
    assert [row[0] for row in ROWS] == numbers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_finding_is_shown_by_tests_that_there_are_or_says_why_by_none(row: list[str]) -> None:
    _, fault, mend, shown = row
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)
    assert fault
    assert named or DECIDED.search(mend), "name a test, or who decides"
    assert shown.count("::") == len(named)
    for path, name in named:
        assert name in names(path), f"{path} has no {name}"
