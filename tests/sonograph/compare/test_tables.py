"""The table on a terminal, failures in words, and CSV."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sonograph.compare import summary, tables
from sonograph.compare.measured import Measured
from sonograph.compare.scores import Errors, Scores
from tests.sonograph.compare.fakes import measured

TINY, BASE = "tiny.en, openai-whisper", "base, faster-whisper"
FOUND = [
    measured(candidate=TINY, input="a.wav", wall_s=0.25, cpu_s=0.5, peak_bytes=900 << 20, threads=2),
    measured(candidate=TINY, input="b.wav", wall_s=0.75, cpu_s=0.5, peak_bytes=100 << 20),
    measured(candidate=BASE, input="a.wav", wall_s=400.0, cpu_s=4.0, peak_bytes=3 << 30),
    measured(candidate=BASE, input="b.wav", error="it was killed"),
]
SCORES = Scores(
    {(TINY, "a.wav"): Errors(1, 8), (BASE, "a.wav"): Errors(0, 8)}, {(TINY, "b.wav"): Errors(1, 5), (BASE, "b.wav"): Errors(5, 5)}
)


def printed(columns: int, found: list[Measured] = FOUND, scores: Scores = SCORES, pictures: bool = False) -> list[str]:
    rows, _ = summary.chosen(summary.rows(found, [TINY, BASE], scores), 1, None)
    console = Console(width=columns, file=io.StringIO(), highlight=False)
    console.print(tables.table(rows, 2, pictures, columns))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_wide_table_has_a_line_for_each_candidate_with_all_figures() -> None:
    *_, base, tiny = printed(140)
    assert " ".join(base.split()) == (
        "★ base, faster-whisper 0.0% 0.0% 2.000 200.0 6.7 min 6.7 min 4.00 s 3.00 GiB -0.500 1 1/2 1"
    )
    assert " ".join(tiny.split()) == (
        "● tiny.en, openai-whisper 12.5% 80.0% 0.250 0.250 0.50 s 1.00 s 1.00 s 900 MiB -0.500 2 2 -"
    )


@pytest.mark.parametrize("columns", [80, 90, 100, 110, 120, 200])
@pytest.mark.parametrize("scores", [SCORES, Scores(SCORES.reference, {}), Scores({}, SCORES.largest)])
def test_a_table_fits_its_terminal_and_cuts_no_figure(columns: int, scores: Scores) -> None:
    lines = printed(columns, scores=scores)
    assert max(map(len, lines)) <= columns
    assert "…" not in "".join(lines)
    assert sum("MiB" in line or "GiB" in line for line in lines) == 2


def test_pictures_have_a_column_for_the_score_that_says_there_is_none() -> None:
    found = [replace(one, length_s=None, text=None, mean_log_probability=None, error=None) for one in FOUND]
    text = "\n".join(printed(80, found, Scores({}, {}), pictures=True))
    assert "score" in text
    assert text.count("none") == 2
    assert "sound" not in text


def test_what_a_name_could_do_to_a_terminal_is_escaped() -> None:
    evil = "\x1b[31mred\u202e"
    found = [measured(candidate=evil), measured(candidate=evil, input="\x07", error="no\x1b]0;title")]
    rows = summary.rows(found, [evil], Scores({}, {}))
    console = Console(width=120, file=io.StringIO())
    console.print(tables.table(rows, 2, False, 120))
    text = console.file.getvalue() + "".join(tables.failures(found))
    assert "\\x1b[31mred\\u202e" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_an_error_is_said_once_with_all_that_it_befell() -> None:
    found = [
        *(measured(input="bad.wav", candidate=name, error="it is no file") for name in (TINY, BASE)),
        *(measured(input=f"{number}.wav", candidate=BASE, error="the model does not load") for number in range(9)),
        measured(input="c.wav", error="it was killed"),
    ]
    assert tables.failures(found) == [
        f"{BASE} (9 inputs): the model does not load",
        "bad.wav (2 candidates): it is no file",
        f"{TINY}: c.wav: it was killed",
    ]


def test_of_very_many_errors_the_rest_is_counted() -> None:
    found = [measured(input=str(number), error=f"error {number}") for number in range(tables.MAX_FAILURES + 3)]
    assert tables.failures(found)[-1] == "and 3 other errors, which results.csv has"


def lines(content: bytes) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_results_have_a_line_for_each_pair_with_its_errors() -> None:
    first, *_, last = lines(tables.results_csv(FOUND, SCORES))
    assert (first["input"], first["candidate"], first["cpu_s"], first["real_time_factor"]) == ("a.wav", TINY, "0.5", "0.125")
    assert (first["word_errors"], first["words"], first["word_error_rate"], first["agreement"]) == ("1", "8", "0.125", "")
    assert (last["error"], last["agreement"], last["words"]) == ("it was killed", "0.0", "")


def test_the_summary_has_a_line_for_each_candidate() -> None:
    rows = summary.rows(FOUND, [TINY, BASE], SCORES)
    (one, other) = lines(tables.summary_csv(rows))
    assert (one["candidate"], one["word_error_rate"], one["cost"], one["on_front"]) == (BASE, "0.0", "2.0", "True")
    assert other["median_s"] == "0.5"


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1"])
def test_a_spreadsheet_computes_no_text(text: str) -> None:
    (line,) = lines(tables.results_csv([measured(text=text, input=text)], Scores({}, {})))
    assert (line["text"], line["input"]) == (f"'{text}", f"'{text}")
    assert line["mean_log_probability"] == "-0.5"


def test_a_name_that_is_no_unicode_is_written() -> None:
    assert b"caf\\udce9.wav" in tables.results_csv([measured(input="caf\udce9.wav")], Scores({}, {}))


def test_tables_of_nothing_are_empty() -> None:
    assert tables.results_csv([], Scores({}, {})) == b"\n"
