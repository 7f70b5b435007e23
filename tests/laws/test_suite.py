"""The suite itself: how it is started changes nothing of what its tests find."""

import subprocess
import sys

import pytest

from testing.service import ROOT


@pytest.mark.slow
def test_ctrl_c_reaches_what_a_test_starts_where_the_suite_was_started_with_it_ignored() -> None:
    """As a script's `make test &` starts it."""
    test = "tests/sonograph/test_draw.py::test_ctrl_c_closes_the_connection_and_leaves_no_file"
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout
