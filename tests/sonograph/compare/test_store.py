"""Kept results: whatever ends a run, what was kept is whole."""

from pathlib import Path

import pytest

from sonograph.compare.store import NAME, NotKept, Store, read
from tests.sonograph.compare.fakes import at_most, measured


def test_results_are_read_as_they_were_kept(tmp_path: Path) -> None:
    kept = [measured(key="1", text='say "hé"\n', cores=(0, 3)), measured(key="2", error="it is no file", text=None)]
    with Store(tmp_path) as store:
        for one in kept:
            store.keep(one)
    assert read(tmp_path) == kept
    assert read(tmp_path / NAME) == kept
    with Store(tmp_path) as again:
        assert dict(again.found) == {one.key: one for one in kept}


def test_of_a_pair_that_was_run_again_the_latest_result_counts(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep(measured(key="1", error="it was killed"))
        store.keep(measured(key="2"))
        store.keep(measured(key="1"))
    assert [(one.key, one.error) for one in read(tmp_path)] == [("2", None), ("1", None)]


def test_a_run_that_was_killed_at_any_byte_leaves_all_whole_lines_and_takes_the_next(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for key in "12":
            store.keep(measured(key=key))
    content = (tmp_path / NAME).read_bytes()
    first = content.index(b"\n") + 1
    for cut in (*range(0, first, 40), first - 1, first, first + 1, len(content) - 1, len(content)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / NAME).write_bytes(content[:cut])
        whole = ["1"] * (cut >= first) + ["2"] * (cut == len(content))
        with Store(folder) as store:
            assert list(store.found) == whole
            assert store.unreadable == 0
            store.keep(measured(key="3"))
        assert [one.key for one in read(folder)] == [*whole, "3"]


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"\xff\x00", b'{"key": "1", "cores": 3}'])
def test_a_line_that_is_no_result_is_counted_and_left_out(tmp_path: Path, line: bytes) -> None:
    with Store(tmp_path) as store:
        store.keep(measured(key="1"))
    path = tmp_path / NAME
    path.write_bytes(line + b"\n" + path.read_bytes())
    with Store(tmp_path) as store:
        assert list(store.found) == ["1"]
        assert store.unreadable == 1


def test_results_with_fields_of_another_version_are_read(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep(measured(key="1"))
    path = tmp_path / NAME
    path.write_text(path.read_text().replace('"language": "en"', '"later": 1'))
    assert read(tmp_path) == [measured(key="1", language="")]


def test_a_full_disk_is_named_and_leaves_no_part_of_a_result(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep(measured(key="1"))
        size_bytes = (tmp_path / NAME).stat().st_size
        with (
            at_most(size_bytes + 100),
            pytest.raises(NotKept, match=r"results\.jsonl cannot take another result: File too large"),
        ):
            store.keep(measured(key="2"))
        assert (tmp_path / NAME).stat().st_size == size_bytes
        store.keep(measured(key="3"))
    assert [one.key for one in read(tmp_path)] == ["1", "3"]


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(NotKept, match="another run writes to"):
        Store(tmp_path)
    with Store(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotKept, match=r"cannot be kept in .*/file"):
        Store(tmp_path / "file")


def test_results_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotKept):
        Store(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_name_that_is_no_unicode_is_kept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep(measured(input="caf\udce9.wav"))
    assert read(tmp_path)[0].input == "caf\udce9.wav"
