"""Prometheus' own tool: checks rules, and runs unit tests of them."""

import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Run promtool in `folder`, and return whether it succeeds, and its output. Skips the test where promtool is absent."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool (Debian's package prometheus) is not on this machine")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode == 0, done.stdout + done.stderr
