"""Candidates and the keys of their results."""

from pathlib import Path
from typing import Any

import pytest

from sonograph.compare import plan
from sonograph.compare.inputs import Input
from sonograph.compare.plan import Asked, Candidate, Checkpoint

SPEECH = "speech-to-text"


def candidate(**values: Any) -> Candidate:
    (found,) = plan.candidates(
        SPEECH, [values.pop("model", "base")], [values.pop("engine", "openai-whisper")], values.pop("more", {})
    )
    return found


def key(
    content: str = "c",
    identity: str = "i",
    cpus: int = 1,
    gpus: float = 0,
    memory: int | None = None,
    language: str = "",
    **of: Any,
) -> str:
    one = Input(of.pop("name", "a.wav"), sha256=content)
    return plan.key(one, candidate(**of), Checkpoint(identity, 1), Asked(cpus, gpus, memory), language)


def test_each_model_is_a_candidate_with_each_engine_and_has_the_settings_that_are_not_defaults() -> None:
    found = plan.candidates(SPEECH, ["tiny.en", "base"], ["openai-whisper", "faster-whisper"], {"padding": "adaptive"})
    assert [(one.label, one.settings) for one in found] == [
        ("tiny.en, openai-whisper", {"padding": "adaptive"}),
        ("tiny.en, faster-whisper", {"padding": "adaptive", "engine": "faster-whisper"}),
        ("base, openai-whisper", {"padding": "adaptive", "model": "base"}),
        ("base, faster-whisper", {"padding": "adaptive", "model": "base", "engine": "faster-whisper"}),
    ]


def test_models_of_one_name_are_told_apart_by_their_paths() -> None:
    found = plan.candidates(SPEECH, ["/a/ours.pt", "/b/ours.pt", "base"], ["openai-whisper"], {})
    assert [one.label for one in found] == [f"{name}, openai-whisper" for name in ("/a/ours.pt", "/b/ours.pt", "base")]
    assert candidate(model="/a/ours.pt").label == "ours.pt, openai-whisper"


def test_a_path_is_whole_wherever_a_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    found = plan.candidates(SPEECH, ["./a.pt", "ours/", "hub/model", "base"], ["faster-whisper"], {})
    assert [one.model for one in found] == [str(tmp_path / "a.pt"), str(tmp_path / "ours"), "hub/model", "base"]


def test_the_drawing_model_that_ships_is_known_by_its_name_wherever_it_lies_on_a_node() -> None:
    (found,) = plan.candidates("text-to-image", ["small-stable-diffusion"], [], {"steps": 4})
    assert (found.label, found.settings) == ("small-stable-diffusion", {"steps": 4})


@pytest.mark.parametrize(
    ("engines", "more", "error"),
    [
        (["whisperx"], {}, "tiny.en, whisperx: whisper.engine: Input should be 'openai-whisper' or 'faster-whisper'"),
        (["openai-whisper"], {"pading": "adaptive"}, "whisper.pading: there is no such key; did you mean padding?"),
        (["openai-whisper"], {"precision": "int8"}, "tiny.en, openai-whisper: .* int8 is computed by faster-whisper alone"),
        (["openai-whisper"], {"padding": "in doubt"}, "set padding to adaptive"),
    ],
)
def test_wrong_settings_are_named(engines: list[str], more: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        plan.candidates(SPEECH, ["tiny.en"], engines, more)


@pytest.mark.parametrize(
    "change",
    [
        {"content": "d"},
        {"identity": "j"},
        {"cpus": 2},
        {"gpus": 0.5},
        {"language": "de"},
        {"model": "tiny.en"},
        {"engine": "faster-whisper"},
        {"more": {"padding": "adaptive"}},
    ],
)
def test_what_a_result_depends_on_is_in_its_key(change: dict[str, Any]) -> None:
    assert key(**change) != key()


@pytest.mark.parametrize(
    "change", [{"name": "b.wav"}, {"memory": 1 << 30}, {"more": {"max_batch": 2, "weights": "/w", "stall_s": 9}}]
)
def test_what_changes_no_result_is_not_in_its_key(change: dict[str, Any]) -> None:
    assert key(**change) == key()


def test_another_version_of_the_measuring_code_has_other_keys() -> None:
    one, checkpoint = Input("a.wav", sha256="c"), Checkpoint("i", 1)
    keys = [plan.key(one, candidate(), checkpoint, Asked(), "", version) for version in (plan.VERSION, plan.VERSION + 1)]
    assert keys[0] == key()
    assert keys[0] != keys[1]


def test_the_largest_model_is_that_of_the_largest_checkpoint_with_the_engine_that_was_named_first() -> None:
    found = plan.candidates(SPEECH, ["tiny.en", "base"], ["faster-whisper", "openai-whisper"], {})
    sizes = {one.label: Checkpoint("", 20 if one.model == "base" else 10) for one in found}
    largest = plan.largest(found, sizes)
    assert largest is not None
    assert largest.label == "base, faster-whisper"
    assert plan.largest(found, {}) is None
