"""A rollout in a terminal."""

from typing import Any

from rich.console import Console

from sonograph.rollouts.table import rollout
from testing.rollout_service import figures


def view() -> dict[str, Any]:
    found = figures()
    found["stable"] |= {"requests": 1200, "errors": {}, "p50_s": 0.41, "p95_s": 0.9, "logprob": -0.31}
    found["candidate"] |= {"requests": 61, "errors": {"internal": 1}, "p50_s": 0.5, "p95_s": 1.2, "empty": 0.016, "logprob": -0.3}
    found["pairs"] |= {"count": 40, "word_drift": {"value": 0.021, "low": 0.01, "high": 0.034}}
    return {
        "rollout": {
            "application": "sonograph-whisper-candidate",
            "share": 20.0,
            "mirror": 10.0,
            "plan": {"steps": [5, 20, 100], "every_s": 600.0},
            "step": 1,
            "status": "running",
            "reason": "",
            "labelled": {"recordings": 2, "words": 200, "stable": 10, "candidate": 8},
            "changed_at": 1000.0,
        },
        "figures": found,
        "verdicts": [
            {"state": "broken", "sentence": "p95 is 1.33 times the stable model's, above 1.2"},
            {"state": "undecided", "sentence": "too few requests for \x1b[31mmax_errors"},
        ],
        "candidate": {"ready": True, "reason": ""},
    }


def printed(view: dict[str, Any], width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rollout("whisper", view, now_s=1150.0))
    return console.export_text()


def test_the_table_has_the_share_the_step_the_figures_and_the_verdicts() -> None:
    lines = [" ".join(line.split()) for line in printed(view()).splitlines()]
    assert "candidate sonograph-whisper-candidate (ready)" in lines
    assert "steps 5%, 20%, 100%, each for 10m; this one since 2m30s" in lines
    assert "word errors 5.0% (stable), 4.0% (candidate) of 200 words in 2 recordings" in lines
    assert "requests 1200 61" in lines
    assert "errors 0 1 (internal 1)" in lines
    assert "median time 0.41 s 0.50 s" in lines
    assert "empty results - 1.6%" in lines
    assert "log probability -0.310 -0.300" in lines
    assert not any(line.startswith("CPU time") for line in lines), "figures that neither has are left out"
    assert "word errors 2.10% 1.00% to 3.40%" in lines
    assert "broken p95 is 1.33 times the stable model's, above 1.2" in lines
    assert f"share {'━' * 6}{'┄' * 24} 20% of the requests" in lines


def test_columns_are_aligned() -> None:
    lines = printed(view()).splitlines()
    (stable,) = {line.index("stable") + len("stable") for line in lines if line.split() == ["stable", "candidate"]}
    rows = [line for line in lines if line.startswith(("requests", "median time", "log probability"))]
    assert len(rows) == 3
    assert all(row[stable - 1] != " " and row[stable] == " " for row in rows)


def test_texts_of_the_service_cannot_steer_the_terminal() -> None:
    assert "\x1b[31m" not in printed(view())
    assert r"\x1b[31mmax_errors" in printed(view())
