"""The loop of a run: what fails is named, and the rest goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sonograph.compare import inputs, pairs, plan
from sonograph.compare.cluster import Died, NoCluster
from sonograph.compare.measured import Measured
from sonograph.compare.plan import Asked, Checkpoint
from sonograph.compare.runner import Pair, Runner
from sonograph.compare.store import NotKept
from sonograph.compare.tasks import Outcome
from tests.sonograph.compare.fakes import WORDS, Finder, Inline

ENGINES = ["openai-whisper"]


@pytest.fixture
def calls(tmp_path: Path) -> Callable[..., list[Pair]]:
    """Pairs of models and recordings with these contents; each is named by its content."""

    def planned(*contents: str, models: tuple[str, ...] = ("tiny.en", "base"), timeout_s: float = 60) -> list[Pair]:
        places = []
        for content in contents:
            places.append(tmp_path / content)
            places[-1].write_text(content)
        candidates = plan.candidates("speech-to-text", models, ENGINES, {})
        checkpoints = pairs.Models({one.label: Checkpoint(one.model, 1) for one in candidates})
        works = {one.label: Finder(tmp_path)(one, "") for one in candidates}
        found = inputs.recordings(places).found
        return list(pairs.pairs(candidates, found, checkpoints, works, {}, Asked(), "", timeout_s).to_run)

    return planned


def run(found: list[Pair], executor: Inline) -> dict[tuple[str, str], Measured]:
    """Outcomes by model and recording."""
    kept: list[Measured] = []
    Runner(executor, lambda outcome: kept.append(outcome.measured)).run(found)
    by = {(one.model, one.input): one for one in kept}
    assert len(by) == len(kept), "a pair has two outcomes"
    return by


def errors(found: dict[tuple[str, str], Measured]) -> dict[tuple[str, str], str]:
    return {pair: one.error for pair, one in found.items() if one.error is not None}


def test_each_pair_is_measured_all_of_one_model_first(calls: Callable[..., list[Pair]]) -> None:
    executor = Inline()
    found = run(calls("a", "b"), executor)
    assert {pair: one.text for pair, one in found.items()} == {
        ("tiny.en", "a"): WORDS.replace("red", "bread"),
        ("tiny.en", "b"): WORDS.replace("red", "bread"),
        ("base", "a"): WORDS,
        ("base", "b"): WORDS,
    }
    assert [candidate.split(",")[0] for candidate, _ in executor.submitted] == ["tiny.en", "tiny.en", "base", "base"]


def test_no_more_tasks_are_submitted_than_keep_the_cluster_busy(calls: Callable[..., list[Pair]]) -> None:
    executor = Inline(slots=3)
    assert len(run(calls(*"abcdefghijklmno"), executor)) == 30
    assert executor.most == 8


def test_a_recording_that_cannot_be_read_is_tried_once_and_fails_for_every_model(calls: Callable[..., list[Pair]]) -> None:
    executor = Inline()
    found = run(calls("unreadable", *"bcdefg"), executor)
    sentence = "the recording has no audio track"
    assert errors(found) == {("tiny.en", "unreadable"): sentence, ("base", "unreadable"): sentence}
    assert [name for _, name in executor.submitted].count("unreadable") == 1


def test_a_model_that_does_not_load_fails_with_every_recording_and_the_others_go_on(calls: Callable[..., list[Pair]]) -> None:
    executor = Inline()
    found = run(calls(*"abcdefgh", models=("broken", "base")), executor)
    assert set(errors(found)) == {("broken", name) for name in "abcdefgh"}
    assert set(errors(found).values()) == {"the model does not load: its file is cut off"}
    assert len([one for one, _ in executor.submitted if one.startswith("broken")]) < 8


def test_an_error_of_one_task_is_that_tasks_alone(calls: Callable[..., list[Pair]]) -> None:
    found = run(calls("wrong", "b"), Inline())
    sentence = "language de needs a multilingual model"
    assert errors(found) == {("tiny.en", "wrong"): sentence, ("base", "wrong"): sentence}


def test_a_task_whose_process_dies_once_is_run_again(calls: Callable[..., list[Pair]]) -> None:
    executor = Inline({"a": 1}, Died("it was killed"))
    assert errors(run(calls("a", "b", models=("base",)), executor)) == {}
    assert [name for _, name in executor.submitted].count("a") == 2


def test_a_task_whose_process_dies_twice_is_named(calls: Callable[..., list[Pair]]) -> None:
    executor = Inline({"a": 9}, Died("it was killed"))
    assert errors(run(calls("a", "b", models=("base",)), executor)) == {("base", "a"): "its process ended twice: it was killed"}
    assert [name for _, name in executor.submitted].count("a") == 2


def test_a_task_beyond_its_time_is_ended_and_named(calls: Callable[..., list[Pair]]) -> None:
    found = run(calls("hang", "b", models=("base",), timeout_s=0.2), Inline())
    assert errors(found) == {("base", "hang"): "it took longer than 0.2 s, its --timeout"}


def test_an_error_of_rays_own_is_the_tasks_and_the_rest_goes_on(calls: Callable[..., list[Pair]]) -> None:
    found = run(calls("a", "b", models=("base",)), Inline({"a": 1}, RuntimeError("no such package")))
    assert errors(found) == {("base", "a"): "RuntimeError: no such package"}


def test_a_recording_that_changes_during_the_run_is_named(calls: Callable[..., list[Pair]], tmp_path: Path) -> None:
    found = calls("a", "b", models=("base",))
    (tmp_path / "a").write_text("other")
    (tmp_path / "b").unlink()
    assert errors(run(found, Inline())) == {
        ("base", "a"): "it has changed during the run: run the command again",
        ("base", "b"): "it cannot be read: No such file or directory",
    }


@pytest.mark.parametrize("error", [NotKept("the disk is full"), KeyboardInterrupt()])
def test_what_stops_a_run_starts_no_further_task(calls: Callable[..., list[Pair]], error: BaseException) -> None:
    executor, kept = Inline(slots=2), list[Outcome]()

    def keep(outcome: Outcome) -> None:
        if kept:
            raise error
        kept.append(outcome)

    with pytest.raises(type(error)):
        Runner(executor, keep).run(calls(*"abcdefgh"))
    assert len(kept) == 1
    assert len(executor.submitted) == 7  # six at once, and one in the place of the first


def test_the_end_of_the_connection_stops_a_run(calls: Callable[..., list[Pair]]) -> None:
    with pytest.raises(NoCluster):
        run(calls("a", "b"), Inline({"a": 1}, NoCluster("the head has ended")))
