"""Files that a command writes."""

from pathlib import Path

import pytest

from sonograph.files import replace_file
from tests.sonograph.compare.fakes import at_most


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    replace_file(path, b"first")
    with at_most(3), pytest.raises(OSError, match="File too large"):
        replace_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["results.csv"]
