"""The suite itself: its results do not depend on how it is started."""

import subprocess
import sys

import pytest

from testing.service import ROOT


@pytest.mark.slow
def test_ctrl_c_reaches_a_tests_processes_even_if_the_suite_was_started_with_it_ignored() -> None:
    """A script's `make test &` starts the suite with SIGINT ignored."""
    test = "tests/sonograph/test_draw.py::test_ctrl_c_closes_the_connection_and_leaves_no_file"
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout
