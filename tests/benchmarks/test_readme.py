"""benchmarks/README.md names each command."""

import re
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ELSEWHERE = {"gpu"}
"""docs/benchmarks.md."""


def test_the_table_has_each_command_and_no_other() -> None:
    commands = {path.stem for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    commands |= {path.parent.name for path in BENCHMARKS.glob("*/__main__.py")}
    table = (BENCHMARKS / "README.md").read_text().split("| `.venv/bin/python -m` | measures |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `benchmarks\.(\w+)` \|", table, re.MULTILINE)) == commands - ELSEWHERE
