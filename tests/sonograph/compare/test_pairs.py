"""Pairs that a run goes on from."""

from dataclasses import replace
from pathlib import Path

import pytest

from sonograph.compare import plan
from sonograph.compare.inputs import Input
from sonograph.compare.pairs import Models, Pairs, pairs
from sonograph.compare.plan import Asked, Checkpoint
from tests.sonograph.compare.fakes import Finder, measured

CANDIDATES = plan.candidates("speech-to-text", ["tiny.en", "base"], ["openai-whisper"], {})
INPUTS = [Input("a.wav", Path("a.wav"), "1"), Input("b.wav", Path("b.wav"), "2")]
LOADED = Models({one.label: Checkpoint(one.model, 1) for one in CANDIDATES})


def planned(kept: dict[str, object] | None = None, inputs: list[Input] = INPUTS, models: Models = LOADED) -> Pairs:
    works = {one.label: Finder(Path())(one, "") for one in CANDIDATES}
    return pairs(CANDIDATES, inputs, models, works, kept or {}, Asked(), "", 60)


def test_what_was_kept_is_not_run_and_has_the_recordings_present_name() -> None:
    first = planned().to_run[0]
    kept = measured(key=first.key, input="old-name.wav")
    found = planned({first.key: kept})
    assert list(found.known) == [replace(kept, input="a.wav")]
    assert [one.key for one in found.to_run] == [one.key for one in planned().to_run[1:]]


def test_what_failed_is_run_again() -> None:
    first = planned().to_run[0]
    found = planned({first.key: measured(key=first.key, error="it was killed")})
    assert found.known == []
    assert len(found.to_run) == 4


@pytest.mark.parametrize(
    ("inputs", "models", "failed"),
    [
        ([replace(INPUTS[0], sha256="", problem="it is no file"), INPUTS[1]], LOADED, {"it is no file": 2}),
        (INPUTS, Models({CANDIDATES[0].label: Checkpoint("", 1)}, {CANDIDATES[1].label: "no such model"}), {"no such model": 2}),
    ],
)
def test_what_cannot_run_has_an_outcome_with_the_reason(inputs: list[Input], models: Models, failed: dict[str, int]) -> None:
    found = planned(inputs=inputs, models=models)
    assert {one.error: len(found.known) for one in found.known} == failed
    assert len({one.key for one in found.known}) == 2
    assert len(found.to_run) == 2


def test_workers_share_an_engine_where_all_that_it_depends_on_is_the_same() -> None:
    keys = [one.task.engine_key for one in planned().to_run]
    assert keys[0] == keys[1] != keys[2] == keys[3]
