"""The record of the files of tests that have passed in a cluster."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.kubernetes import record


def test_a_file_that_has_passed_is_current_until_what_it_depends_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passed.txt"
    assert record.current(file) == set()
    record.write({"test_gpus.py"}, file)
    record.write({"test_edge.py", "test_losses.py"}, file)
    assert record.current(file) == {"test_edge.py", "test_gpus.py", "test_losses.py"}
    file.write_text(file.read_text().replace("test_edge.py ", "test_edge.py 0"))
    assert record.current(file) == {"test_gpus.py", "test_losses.py"}
    monkeypatch.setattr(record, "PRODUCT", (*record.PRODUCT, "Makefile"))
    assert record.current(file) == set()


def test_a_file_depends_on_itself_and_not_on_the_other_tests() -> None:
    edge, changes = record.paths("test_edge.py"), record.paths("test_changes.py")
    assert ":(exclude)tests/kubernetes/test_edge.py" in changes
    assert ":(exclude)tests/kubernetes/test_edge.py" not in edge
    for doctor in record.DOCTOR:
        assert f":(exclude){doctor}" in edge
        assert f":(exclude){doctor}" not in changes
    assert record.digest(edge) != record.digest(changes)


def test_a_file_has_passed_if_all_its_tests_have() -> None:
    def reports(*files: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(nodeid=f"tests/kubernetes/{file}::test_one[{file}]") for file in files]

    outcomes = {
        "": reports("test_gpus.py", "test_edge.py"),  # their fixtures
        "passed": reports("test_gpus.py", "test_edge.py", "test_losses.py", "test_record.py"),
        "failed": reports("test_edge.py"),
        "skipped": reports("test_losses.py"),
        "deselected": [object()],
    }
    assert record.passed(outcomes) == {"test_gpus.py"}


def test_each_path_that_is_watched_exists() -> None:
    for path in (*record.PRODUCT, record.HERE, *record.DOCTOR):
        assert list(record.ROOT.glob(path)), path
