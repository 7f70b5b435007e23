"""The record of the last runs of these tests that passed: for each file of tests a hash of what it depends on, in `passed.txt`.

`python -m tests.kubernetes.record` exits with 0 if every file has passed with the present ones.
"""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = "tests/kubernetes"
FILE = Path(__file__).with_name("passed.txt")
PRODUCT = (
    *("kuberay", "images", "graphs/core", "graphs/serve", "graphs/ray.env", "sonograph", "requirements.lock"),
    "deployments/*.py",
    "deployments/*/deployment.py",
)
DOCTOR = ("kuberay/doctor", "sonograph/doctor.py")
"""The doctor, which changes nothing in a cluster, counts only where a test runs it."""
ELSEWHERE = ("sonograph/cli.py", "sonograph/compare", "sonograph/new", "sonograph/rightsize")
"""Parts of the command that no file of tests runs in the cluster."""
OTHERS = {
    "test_changes.py": DOCTOR,
    "test_mistakes.py": ("tests/kuberay/mistakes", "tests/kuberay/test_doctor.py", "testing/manifests.py"),
}
"""Files that a file of tests depends on beside the rest of the product and this package."""
TEXTS = (".md", FILE.name)
"""Endings of files among them that no test of this folder reads."""


def tests() -> list[str]:
    """Return the names of the files of tests that run in the cluster."""
    return sorted(file.name for file in FILE.parent.glob("test_*.py") if file.name != "test_record.py")


def paths(test: str) -> tuple[str, ...]:
    """Return what git shall list for a file of tests: the product, this package, and of its tests only this file; never this record."""
    others = OTHERS.get(test, ())
    left_out = [f"{HERE}/{one}" for one in [*tests(), "test_record.py", Path(__file__).name] if one != test]
    left_out += [*ELSEWHERE, *(one for one in DOCTOR if one not in others)]
    product = [f":(glob){one}" if "*" in one else one for one in PRODUCT]  # to git alone * is any path
    return (*product, HERE, *others, *(f":(exclude){one}" for one in left_out))


def digest(paths: tuple[str, ...]) -> str:
    """Return the hash of these files as git has them in its index."""
    listed = subprocess.run(["git", "ls-files", "--stage", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in listed.stdout.splitlines() if not line.endswith(TEXTS)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def current(file: Path = FILE) -> set[str]:
    """Return the files of tests that have passed with what they depend on now."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {test for test in tests() if f"{test} {digest(paths(test))}" in lines}


def passed(outcomes: Mapping[str, Sequence[Any]]) -> set[str]:
    """Return the files all of whose tests have passed. `outcomes`: pytest's reports by outcome, which is empty for a fixture's success."""
    files = {
        outcome: {Path(one.nodeid.split("::")[0]).name for one in reports if hasattr(one, "nodeid")}
        for outcome, reports in outcomes.items()
    }
    return set(tests()) & files.pop("passed", set()) - set().union(*(files[outcome] for outcome in files if outcome))


def write(passed: set[str], file: Path = FILE) -> None:
    """Record that these files of tests have passed."""
    kept = {
        name: line for line in (file.read_text().splitlines() if file.exists() else []) if (name := line.split()[0]) in tests()
    }
    kept |= {test: f"{test} {digest(paths(test))}" for test in passed}
    file.write_text("".join(f"{kept[name]}\n" for name in sorted(kept)))


if __name__ == "__main__":  # CI runs the files of tests that have not passed
    raise SystemExit(current() != set(tests()))
