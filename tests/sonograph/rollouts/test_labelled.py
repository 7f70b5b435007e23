"""Recordings with known texts."""

from pathlib import Path

import pytest

from sonograph.errors import Failed
from sonograph.rollouts.labelled import measure, read


def labels(folder: Path, *lines: str) -> Path:
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(name.encode())
    file = folder / "texts.tsv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_the_models_take_turns_and_their_word_errors_are_counted(tmp_path: Path) -> None:
    recordings = read(labels(tmp_path, "a.wav\tA red apple.", "", "b.wav\tTwo green pears"))
    asked, done = [], []

    def transcribe(content: bytes, model: str) -> str:
        asked.append((content, model))
        return {"stable": "a red apple", "candidate": "two red pears"}[model]

    counted = measure(recordings, transcribe, done.append)
    assert counted == {"recordings": 2, "words": 6, "stable": 3, "candidate": 4 - 1}
    assert asked == [(b"a.wav", "stable"), (b"a.wav", "candidate"), (b"b.wav", "candidate"), (b"b.wav", "stable")]
    assert done == [1, 2]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a.wav", "line 1 of .* has no text: write the recording's path, a tab, and its words"),
        ("c.wav\tA red apple", "line 1 of .*: there is no recording .*c.wav"),
        ("", "names no recordings"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(Failed, match=sentence):
        read(labels(tmp_path, line))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"cannot read .*: No such file"):
        read(tmp_path / "no.tsv")
