"""Results of `sonograph compare`, as they are judged: sound outcomes, by candidate and what they asked for."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sonograph.compare.measured import Measured
from sonograph.compare.store import Store
from sonograph.errors import Failed
from sonograph.rightsize.results import nodes, outcomes, subjects
from sonograph.rightsize.used import Requested, Spread

MIB = 2**20


def measured(key: str = "k", candidate: str = "tiny.en, faster-whisper", **changed: Any) -> Measured:
    model, _, engine = str(candidate).partition(", ")
    figures: dict[str, Any] = {
        "role": "speech-to-text",
        "settings": {},
        "input": f"{key}.wav",
        "length_s": 5.0,
        "asked_cpus": 1.0,
        "asked_bytes": None,
        "node": "machine",
        "pid": 7,
        "cores": (0,),
        "started_s": 0.0,
        "ended_s": 2.0,
        "load_s": 0.0,
        "wall_s": 2.0,
        "cpu_s": 1.0,
        "threads": 1,
        "peak_bytes": 400 * MIB,
        "text": "a cat",
        "mean_log_probability": -0.3,
    }
    return Measured(**{**figures, "key": key, "candidate": candidate, "model": model, "engine": engine, **changed})


def kept(folder: Path, *found: Measured) -> Path:
    """Keep outcomes as `sonograph compare` does."""
    with Store(folder) as store:
        for one in found:
            store.keep(one)
    return folder


def test_the_results_of_a_comparison_are_read_by_its_own_reader(tmp_path: Path) -> None:
    found = outcomes(kept(tmp_path, measured("a"), measured("b", cpu_s=1.8), measured("b", cpu_s=2.0, threads=8)))
    (whisper,), sentences = subjects(found)
    assert (whisper.name, whisper.kind, whisper.count, whisper.deployment) == ("tiny.en, faster-whisper", "task", 2, "whisper")
    assert whisper.requested == Requested(1.0, None)
    assert (whisper.cpus, whisper.threads, whisper.memory) == (Spread(0.5, 1, 1), Spread(1, 8, 8), Spread(*(400 * MIB,) * 3))
    assert sentences == []
    assert nodes(found) == ["machine"]


def test_each_candidate_and_each_amount_that_it_asked_for_is_judged_alone(tmp_path: Path) -> None:
    found, _ = subjects([measured("a"), measured("b", asked_cpus=2), measured("c", "base, x")])
    assert [one.name for one in found] == [
        "tiny.en, faster-whisper (asking for 1)",
        "tiny.en, faster-whisper (asking for 2)",
        "base, x",
    ]


def test_pictures_are_of_the_model_that_draws() -> None:
    (found,), _ = subjects([measured("a", "small", role="text-to-image", engine="", length_s=None)])
    assert found.deployment == "diffusion"
    assert subjects([measured(role="of nothing")])[0][0].deployment is None


def test_what_failed_is_counted_and_not_among_the_figures() -> None:
    (found,), sentences = subjects([measured("a"), measured("b", error="b.wav is no sound", cpu_s=99.0)])
    assert (found.count, found.cpus) == (1, Spread(0.5, 0.5, 0.5))
    assert sentences == ["1 task failed, and not among the figures"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_s": float("nan")},
        {"cpu_s": -1.0},
        {"wall_s": 0.0},
        {"wall_s": "2"},
        {"peak_bytes": 1e300},
        {"peak_bytes": None},
        {"threads": -3},
        {"asked_cpus": float("inf")},
        {"asked_bytes": "1Gi"},
        {"node": None},
        {"role": 5},
        {"candidate": ["x"]},
    ],
    ids=repr,
)
def test_figures_that_cannot_be_true_are_left_out_and_counted(wrong: dict[str, Any]) -> None:
    (found,), sentences = subjects([measured("a"), measured("b", **wrong)])
    assert found.count == 1
    assert sentences == ["1 result with figures that cannot be true, and not among them"]


def test_a_folder_without_results_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="--out"):
        outcomes(tmp_path / "nothing")
    with pytest.raises(Failed, match="--out"):
        outcomes(tmp_path)
    (tmp_path / "results.jsonl").write_text("no JSON\n[]\n{}\n5\n")
    with pytest.raises(Failed, match="no result yet"):
        outcomes(tmp_path)


def test_results_without_a_success_are_refused() -> None:
    with pytest.raises(Failed, match="no task of these results succeeded"):
        subjects([measured(error="no")])


def test_lines_of_anyones_making_are_no_figures(tmp_path: Path) -> None:
    line = json.dumps({**asdict(measured("a")), "wall_s": {"x": 1}, "cores": [1]})
    (tmp_path / "results.jsonl").write_text(f"{line}\n{json.dumps(asdict(measured('b')))}\n")
    (found,), sentences = subjects(outcomes(tmp_path))
    assert found.count == 1
    assert sentences
