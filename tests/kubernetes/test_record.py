"""The record of the last run of these tests that passed whole."""

from pathlib import Path

from tests.kubernetes import record


def test_a_passed_run_is_current_until_a_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "passed.txt"
    assert not record.is_current(file)
    record.write(file)
    assert record.is_current(file)
    assert not record.is_current(file, (*record.PATHS, "Makefile"))


def test_each_path_that_is_watched_exists() -> None:
    for path in record.PATHS:
        assert list(record.ROOT.glob(path)), path
