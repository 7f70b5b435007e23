"""Recordings of files and folders, prompts, and known texts."""

import os
from pathlib import Path

import pytest

from sonograph.compare import inputs
from sonograph.compare.inputs import Unreadable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    calls = tmp_path / "calls"
    (calls / "may" / ".cache").mkdir(parents=True)
    for name in ("b.wav", "a.OGG", "may/c.flac", "may/.cache/d.wav", "notes.txt", ".e.wav"):
        (calls / name).write_text(name)
    return calls


def names(found: inputs.Inputs) -> list[str]:
    return [one.name for one in found.found]


def test_a_folders_recordings_are_those_of_known_endings_with_all_below_and_none_hidden(folder: Path) -> None:
    found = inputs.recordings([folder])
    assert names(found) == ["a.OGG", "b.wav", "may/c.flac"]
    assert found.notes == ("1 other file in the folders: a recording's name ends with " + ", ".join(sorted(inputs.SUFFIXES)),)


def test_a_file_that_is_named_itself_may_have_any_ending(folder: Path) -> None:
    assert names(inputs.recordings([folder / "notes.txt"])) == ["notes.txt"]


def test_recordings_of_one_name_are_told_apart_by_their_paths(folder: Path) -> None:
    other = folder.parent / "others"
    other.mkdir()
    (other / "b.wav").write_text("another")
    assert names(inputs.recordings([folder / "b.wav", other])) == [str(folder / "b.wav"), str(other / "b.wav")]


def test_the_same_content_is_measured_once(folder: Path) -> None:
    (folder / "z.wav").write_text("b.wav")
    found = inputs.recordings([folder, folder / "b.wav"])
    assert [(one.name, [copy.name for copy in one.copies]) for one in found.found if one.copies] == [
        (str(folder / "b.wav"), ["z.wav"])
    ]
    assert "1 recording with the content of another one, which is measured once" in found.notes


def test_what_cannot_be_read_is_named_and_the_rest_is_found(folder: Path) -> None:
    os.mkfifo(folder / "pipe.wav")
    (folder / "gone.wav").symlink_to("nowhere")
    found = inputs.recordings([folder, folder.parent / "typo.wav"])
    assert {one.name: one.problem for one in found.found if one.problem} == {
        "gone.wav": "it cannot be read: No such file or directory",
        "pipe.wav": "it is no file",
        "typo.wav": "it cannot be read: No such file or directory",
    }
    assert len(found.found) == 6


def test_a_recording_of_another_content_has_another_hash_and_a_renamed_one_the_same(folder: Path) -> None:
    (one,) = inputs.recordings([folder / "b.wav"]).found
    (folder / "b.wav").rename(folder / "x.wav")
    (renamed,) = inputs.recordings([folder / "x.wav"]).found
    (folder / "x.wav").write_text("other")
    (changed,) = inputs.recordings([folder / "x.wav"]).found
    assert one.sha256 == renamed.sha256 != changed.sha256


def test_prompts_are_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\ufeffa red apple\n\n  a boat  \na red apple\r\n", encoding="utf-8")
    found = inputs.prompts(file)
    assert names(found) == ["a red apple", "a boat"]
    assert found.found[1].content() == b"a boat"
    assert found.notes == ("1 prompt with the content of another one, which is measured once",)


@pytest.mark.parametrize(
    ("content", "error"), [(b"\xff\xfe\xff", "it is no text in UTF-8"), (b"a" * 10_001, "line 1 of .* 10000")]
)
def test_a_file_of_prompts_that_is_none_is_refused(tmp_path: Path, content: bytes, error: str) -> None:
    (tmp_path / "texts.txt").write_bytes(content)
    with pytest.raises(Unreadable, match=error):
        inputs.prompts(tmp_path / "texts.txt")


def test_known_texts_are_found_by_the_name_below_the_folder_by_path_and_by_a_unique_files_name(folder: Path) -> None:
    file = folder.parent / "texts.tsv"
    file.write_text("b.wav\tthe second\ncalls/a.OGG\tthe first\nc.flac\tthe third\nother.wav\tnobody's\n")
    found = inputs.references(file, inputs.recordings([folder]).found)
    assert found.texts == {"a.OGG": "the first", "b.wav": "the second", "may/c.flac": "the third"}
    assert (found.missing, found.unused) == ((), ("other.wav",))


def test_a_missing_text_is_named(folder: Path) -> None:
    file = folder.parent / "texts.tsv"
    file.write_text("b.wav\tthe second\n")
    assert inputs.references(file, inputs.recordings([folder]).found).missing == ("a.OGG", "may/c.flac")


def test_a_text_by_a_copys_name_is_the_recordings_too(folder: Path) -> None:
    (folder / "z.wav").write_text("b.wav")
    file = folder.parent / "texts.tsv"
    file.write_text("z.wav\tthe second\nb.wav\tthe second\n")
    found = inputs.references(file, inputs.recordings([folder]).found)
    assert found.texts == {"b.wav": "the second"}
    assert found.unused == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("b.wav the second\n", "line 1 of .* is no name and text"),
        ("b.wav\tone\n\nb.wav\ttwo\n", r"line 3 of .* names b\.wav again"),
        ("b.wav\t \n", "line 1 of"),
    ],
)
def test_a_wrong_line_of_known_texts_is_refused_with_its_number(folder: Path, content: str, error: str) -> None:
    (folder / "texts.tsv").write_text(content)
    with pytest.raises(Unreadable, match=error):
        inputs.references(folder / "texts.tsv", inputs.recordings([folder]).found)
