"""The benchmark of rollouts: its table is the document's, and its verdicts follow from the numbers."""

import json
from typing import Any

import pytest

from benchmarks import rollouts
from testing.service import ROOT


def runs(*pairs: int, after_s: float | None = 0.5) -> list[dict[str, Any]]:
    return [{"pairs": one, "aborted_after_s": after_s, "reason": ""} for one in pairs]


def row(results: dict[str, Any]) -> str:
    *_, last = rollouts.table(results)
    return last


def test_the_readme_shows_the_results() -> None:
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert "\n".join(rollouts.table(json.loads((ROOT / "benchmarks" / "results" / "rollouts.json").read_text()))) in readme


def test_a_ratio_is_the_median_of_pairs() -> None:
    found = rollouts.ratio([10.0, 20.0, 40.0], [11.0, 20.0, 60.0])
    assert (found["alone_ms"], found["mirrored_ms"]) == (20.0, 20.0)
    assert found["ratio"] == pytest.approx(1.1)
    assert found["low"] <= found["ratio"] <= found["high"]


@pytest.mark.parametrize(
    ("mirrored_ms", "verdict"),
    [([10.0] * 20, "| met |"), ([10.4] * 20, "| **not met** |"), ([10.0, 10.6] * 10, "| not decided |")],
)
def test_the_goal_of_the_latency_is_met_by_the_whole_interval(mirrored_ms: list[float], verdict: str) -> None:
    assert row({"mirror": {"/listen, one after another with pauses": rollouts.ratio([10.0] * 20, mirrored_ms)}}).endswith(verdict)


def test_without_pauses_the_candidate_has_no_cpus_of_its_own_and_no_verdict() -> None:
    assert row({"mirror": {"/listen, 4 at once": rollouts.ratio([10.0] * 20, [14.0] * 20)}}).endswith("|  |")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (runs(20, 60, 150), "| met |"),
        (runs(20, 61, 150), "| **not met** |"),
        (runs(20, 30) + runs(200, after_s=None), "| **not met** |"),
    ],
)
def test_a_bad_candidate_has_to_be_aborted_in_every_run(found: list[dict[str, Any]], verdict: str) -> None:
    assert row({"aborts": {"twice as slow": found}}).endswith(verdict)


def test_runs_without_any_abort_have_a_row() -> None:
    assert "0 of 2 aborted" in row({"aborts": {"twice as slow": runs(200, 200, after_s=None)}})


@pytest.mark.parametrize(("found", "verdict"), [(runs(200, 203, after_s=None), "| met |"), (runs(40), "| **not met** |")])
def test_a_good_candidate_may_not_be_aborted(found: list[dict[str, Any]], verdict: str) -> None:
    assert row({"aborts": {"good": found}}).endswith(verdict)
