"""The recordings of the comparison, and what its results say."""

import io
import shutil
import wave
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks import comparison, corpus
from sonograph.compare.measured import Measured
from sonograph.compare.scores import Errors, Scores
from tests.benchmarks.test_two_numbers import task

pytestmark = pytest.mark.slow

SPEAKS = pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("sox")), reason="flite or sox is not installed: apt install flite sox"
)
RIGHT, WRONG = "tiny.en, openai-whisper", "base, faster-whisper"


def power(samples: Sequence[float]) -> float:
    return float(np.mean(np.square(np.asarray(samples, np.float64))))


def test_there_are_more_than_a_hundred_recordings_and_none_twice() -> None:
    names = [one.name for one in corpus.plan()]
    assert len(names) == len(set(names)) > 100
    assert len(set(corpus.SENTENCES)) == len(corpus.SENTENCES) >= 30


@pytest.mark.parametrize("kind", ["voice", "speed", "noise"])
def test_each_level_of_noise_has_the_same_voices_speeds_and_kinds(kind: str) -> None:
    counts = {level: Counter(getattr(one, kind) for one in corpus.plan() if one.level == level) for level in corpus.LEVELS}
    assert len({count for level in counts for count in counts[level].values() if kind != "noise" or level != "clean"}) == 1
    assert {len(count) for level, count in counts.items() if level != "clean"} == {{"voice": 4, "speed": 3, "noise": 3}[kind]}


@pytest.mark.parametrize("level_db", [0.0, 12.0, 24.0])
def test_the_noise_is_weaker_than_the_speech_by_its_level(level_db: float) -> None:
    rng = np.random.default_rng(0)
    speech, noise = ((rng.standard_normal(50_000) * loud).astype(np.int16) for loud in (3000, 500))
    rest = corpus.mixed(speech, noise, level_db).astype(np.float64) - speech
    assert 10 * np.log10(power(speech) / power(rest)) == pytest.approx(level_db, abs=0.1)


def test_loud_speech_is_not_clipped() -> None:
    loud = np.full(1000, 32_000, np.int16)
    assert set(corpus.mixed(loud, loud, 0.0)) <= {31_999, 32_000}


@SPEAKS
def test_the_recordings_are_the_same_each_time_and_their_texts_stand_beside_them(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        made = list(corpus.make(folder, sentences=2))
        corpus.sentence.cache_clear()
        corpus.made.cache_clear()
    contents = [{path.name: path.read_bytes() for path in sorted(folder.iterdir())} for folder in folders]
    assert contents[0] == contents[1]
    texts = dict(line.split("\t") for line in (folders[0] / corpus.TEXTS).read_text().splitlines())
    assert texts == {one.name: one.text for one in made}
    for one in made:
        with wave.open(io.BytesIO(contents[0][one.name])) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            assert file.getnframes() > 16_000
    assert len(set(contents[0].values())) == len(contents[0])
    with pytest.raises(FileExistsError, match="is not empty"):
        list(corpus.make(folders[0]))


def measured(recordings: Sequence[corpus.Recording]) -> tuple[list[Measured], Scores]:
    """Return tasks of two candidates: one makes an error in each noisy recording, the other one in each."""
    found, errors = list[Measured](), dict[tuple[str, str], Errors]()
    for candidate, cpu_s in ((RIGHT, 4.0), (WRONG, 8.0)):
        for at, one in enumerate(recordings):
            found.append(task(at, cpu_s, candidate=candidate, input=one.name))
            wrong = candidate == WRONG or one.level != "clean"
            errors[candidate, one.name] = Errors(int(wrong), 10)
    return found, Scores(errors, {})


def test_error_rates_are_divided_by_the_noise() -> None:
    found = comparison.summarized(*_arguments())
    clean = {name: one["by_noise"]["clean"]["rate"] for name, one in found["candidates"].items()}
    assert clean == {RIGHT: 0.0, WRONG: 0.1}
    assert found["candidates"][RIGHT]["word_errors"]["rate"] == pytest.approx(0.075)
    assert found["candidates"][RIGHT]["cpu_s_for_a_second"]["median"] == pytest.approx(0.2)
    assert found["chosen"] == RIGHT
    (pair,) = found["pairs"].values()
    assert pair["points"] == pytest.approx(-2.5)
    assert pair["interval"][0] < -2.5 < pair["interval"][1] < 0


def test_the_table_marks_the_chosen_and_the_picture_has_both_panels(tmp_path: Path) -> None:
    found = comparison.summarized(*_arguments())
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(comparison.table(found))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines() if "│" in line]
    assert [line[0] for line in lines] == [f"{RIGHT} *", WRONG]
    assert lines[0][4:] == ["0.0%", "10.0%", "10.0%", "10.0%"]
    comparison.draw(found, tmp_path / "comparison.png")
    assert Image.open(tmp_path / "comparison.png").width == 2 * comparison.chart.WIDTH


def _arguments() -> tuple[list[Measured], list[corpus.Recording], Scores]:
    recordings = corpus.plan()
    return (found := measured(recordings))[0], recordings, found[1]
