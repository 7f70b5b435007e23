"""Rows, the Pareto front, and the choice."""

import re
from typing import Any

import pytest

from sonograph.compare import summary
from sonograph.compare.scores import Errors, Scores
from sonograph.compare.summary import Row
from tests.sonograph.compare.fakes import measured

NOTHING = Scores({}, {})


def row(candidate: str, error: float | None, cpu_s: float | None = 1.0, **values: Any) -> Row:
    blank = dict.fromkeys(
        ["median_s", "real_time_factor", "peak_bytes", "threads", "mean_log_probability", "agreement", "word_error_rate"]
    )
    done: dict[str, Any] = {"count": 1, "failed": 0, "seconds": 1.0, "length_s": 1.0}
    return Row(candidate, candidate, "", **{**blank, **done, "cpu_s": cpu_s, "word_error_rate": error, **values})


def front(*points: tuple[float | None, float | None]) -> list[int]:
    """Places of the points on the front."""
    found = [row(str(place), error, cost) for place, (error, cost) in enumerate(points)]
    return [place for place, one in enumerate(found) if summary._on_front(one, found)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.1, 1.0)], [0]),
        ([(0.1, 1.0), (0.2, 0.5)], [0, 1]),
        ([(0.1, 1.0), (0.2, 1.0)], [0]),
        ([(0.1, 1.0), (0.1, 0.5)], [1]),
        ([(0.1, 1.0), (0.1, 1.0)], [0, 1]),
        ([(0.1, 3.0), (0.2, 2.0), (0.15, 2.5), (0.3, 2.0)], [0, 1, 2]),
        ([(None, 0.1), (0.2, 1.0), (0.1, None)], [1]),
        ([], []),
    ],
)
def test_the_front_has_whatever_nothing_beats(points: list[tuple[float | None, float | None]], expected: list[int]) -> None:
    assert front(*points) == expected


def test_a_row_sums_up_what_a_candidate_did_and_counts_what_failed() -> None:
    found = [
        measured(input="a", length_s=2.0, wall_s=1.0, cpu_s=2.0, peak_bytes=5, threads=1, mean_log_probability=-1.0),
        measured(input="b", length_s=6.0, wall_s=3.0, cpu_s=4.0, peak_bytes=9, threads=2, mean_log_probability=-0.2),
        measured(input="c", error="it is no file", wall_s=100.0, peak_bytes=100),
    ]
    label = found[0].candidate
    scores = Scores({(label, "a"): Errors(1, 4), (label, "b"): Errors(0, 6)}, {(label, "d"): Errors(1, 5)})
    (one,) = summary.rows(found, [label], scores)
    assert (one.count, one.failed, one.seconds, one.median_s, one.cpu_s, one.length_s) == (2, 1, 4.0, 2.0, 6.0, 8.0)
    assert (one.real_time_factor, one.peak_bytes, one.threads) == (0.5, 9, 2)
    assert (one.mean_log_probability, one.word_error_rate, one.agreement) == (pytest.approx(-0.4), 0.1, 0.8)
    assert (one.error, one.cost) == (0.1, 0.75)


def test_a_picture_costs_its_time_and_has_no_error() -> None:
    (one,) = summary.rows([measured(length_s=None, text=None, wall_s=3.0)], ["tiny.en, openai-whisper"], NOTHING)
    assert (one.cost, one.error, one.real_time_factor, one.on_front) == (3.0, None, None, False)


def test_a_candidate_without_a_result_has_a_row_without_figures() -> None:
    (one,) = summary.rows([measured(error="the model does not load")], ["tiny.en, openai-whisper"], NOTHING)
    assert (one.count, one.failed, one.cost, one.error, one.peak_bytes) == (0, 1, None, None, None)


def test_rows_are_in_the_order_of_error_and_then_of_cost() -> None:
    found = [measured(candidate=name, cpu_s=cpu_s) for name, cpu_s in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 1.0))]
    scores = Scores({(name, "a.wav"): Errors(errors, 10) for name, errors in (("a", 1), ("b", 2), ("c", 1))}, {})
    assert [one.candidate for one in summary.rows(found, list("abcd"), scores)] == ["c", "a", "b", "d"]


@pytest.mark.parametrize(
    ("within", "winner", "reason"),
    [
        (
            1.0,
            "base",
            "base is chosen, the cheapest on the front within 1 point of the best: 5.8% of the words wrong (large: 5.0%), "
            "2 CPU s for each second of sound instead of 9.",
        ),
        (
            0.0,
            "large",
            "large is chosen: it has the least error, 5.0% of the words wrong, and no cheaper one is within 0 points of it",
        ),
        (10.0, "tiny", "tiny is chosen, the cheapest on the front within 10 points of the best"),
    ],
)
def test_the_cheapest_on_the_front_within_the_tolerance_is_chosen_and_the_reason_said(
    within: float, winner: str, reason: str
) -> None:
    found = [
        row("large", 0.05, 9.0, on_front=True),
        row("base", 0.058, 2.0, on_front=True),
        row("tiny", 0.12, 1.0, on_front=True),
    ]
    marked, choice = summary.chosen([*found, row("beaten", 0.058, 3.0)], within, None)
    assert choice.candidate == winner
    assert choice.reason.startswith(reason)
    assert [one.candidate for one in marked if one.chosen] == [winner]


def test_without_known_texts_the_reason_names_the_largest_model() -> None:
    rows = [
        row("large", None, 9.0, agreement=1.0, on_front=True),
        row("tiny", None, 1.0, agreement=0.9, on_front=True),
    ]
    _, choice = summary.chosen(rows, 1, "large")
    assert choice.reason.startswith("large is chosen, the largest model: no cheaper one has its words to within 1 point")
    _, choice = summary.chosen(rows, 20, "large")
    assert "10.0% of the words other than those of large" in choice.reason


def test_what_is_best_in_all_is_chosen() -> None:
    _, choice = summary.chosen([row("tiny", 0.05, 1.0, on_front=True), row("base", 0.06, 2.0)], 1, None)
    assert choice.reason.startswith("tiny is chosen: nothing has less error or is cheaper")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row("a", None, None, count=0)], "none has a result"),
        (
            [row("a", None, length_s=None), row("b", None, length_s=None, seconds=0.5)],
            "pictures have no score.* cheapest is b; look at the pictures",
        ),
    ],
)
def test_without_an_error_rate_nothing_is_chosen(rows: list[Row], reason: str) -> None:
    marked, choice = summary.chosen(rows, 1, None)
    assert choice.candidate is None
    assert not any(one.chosen for one in marked)
    assert re.search(reason, choice.reason)
