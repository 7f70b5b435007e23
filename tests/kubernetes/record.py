"""The record of the last run of these tests that passed whole: a hash of the files that they depend on, in `passed.txt`."""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("passed.txt")
PATHS = (
    *("kuberay", "images", "tests/kubernetes", "graphs/core", "graphs/serve", "graphs/ray.env", "sonograph", "requirements.lock"),
    "deployments/*.py",
    "deployments/*/deployment.py",
)
TEXTS = (".md", FILE.name)
"""Endings of files among them that no test of this folder reads."""


def tree(paths: tuple[str, ...] = PATHS) -> str:
    """Return the hash of these files as git has them in its index."""
    listed = subprocess.run(["git", "ls-files", "--stage", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in listed.stdout.splitlines() if not line.endswith(TEXTS)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def is_current(file: Path = FILE, paths: tuple[str, ...] = PATHS) -> bool:
    """Return whether the tests have passed with these files."""
    return file.exists() and file.read_text().strip() == tree(paths)


def write(file: Path = FILE) -> None:
    file.write_text(f"{tree()}\n")
