"""The real tiny.en in both engines, and the drawing model that ships, as tasks of a comparison in this process."""

import json
from pathlib import Path

import pytest

from sonograph.compare import inputs, pairs, plan, scores, summary
from sonograph.compare.pairs import Models
from sonograph.compare.plan import Asked, Candidate
from sonograph.compare.runner import Runner
from sonograph.compare.tasks import Outcome
from sonograph.compare.works import described, work
from testing import speech
from tests.sonograph.compare.fakes import Inline

pytestmark = pytest.mark.torch
NAMES = ("cat-slt.ogg", "boat-rms.ogg", "village-slt.ogg")
ENGINES = ["openai-whisper", "faster-whisper"]


def outcomes(candidates: list[Candidate], found: inputs.Inputs) -> list[Outcome]:
    works = {one.label: work(one, "") for one in candidates}
    models = Models({label: described(one, 1) for label, one in works.items()})
    kept: list[Outcome] = []
    Runner(Inline(), kept.append).run(pairs.pairs(candidates, found.found, models, works, {}, Asked(), "", 600).to_run)
    return kept


def test_both_engines_have_the_words_of_three_recordings_and_every_figure(tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    silence.write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    texts = json.loads((speech.HERE / "sentences.json").read_text())
    found = inputs.recordings([*(speech.HERE / name for name in NAMES), silence])
    candidates = plan.candidates("speech-to-text", ["tiny.en"], ENGINES, {})
    measured = [one.measured for one in outcomes(candidates, found)]
    assert [one.input for one in measured if one.error is not None] == ["silence.wav", "silence.wav"]
    done = [one for one in measured if one.error is None]
    assert len(done) == 6
    for one in done:
        assert one.wall_s > 0
        assert one.cpu_s > 0
        assert one.cores
        assert one.length_s is not None
        assert 1 < one.length_s < 10
        assert 300 << 20 < one.peak_bytes < 8 << 30
        assert one.mean_log_probability is not None
        assert -1 < one.mean_log_probability < 0
        assert one.language == "en"
    assert [one.load_s > 0 for one in done] == [True, False, False] * 2
    scored = scores.scored(measured, texts, candidates[0].label, scores.normalized)
    rows, choice = summary.chosen(summary.rows(measured, [one.label for one in candidates], scored), 1, candidates[0].label)
    assert {row.candidate for row in rows} == {f"tiny.en, {engine}" for engine in ENGINES}
    for row in rows:
        assert (row.count, row.failed) == (3, 1)
        assert row.word_error_rate is not None
        assert row.word_error_rate < 0.2
    assert choice.candidate in {one.candidate for one in done}


def test_a_recording_in_a_language_that_a_model_does_not_have_is_its_own_error() -> None:
    (one,) = plan.candidates("speech-to-text", ["tiny.en"], ["openai-whisper"], {})
    german = work(one, "de")
    audio, _ = german.read((speech.HERE / NAMES[0]).read_bytes())
    with pytest.raises(Exception, match="language de needs a multilingual model"):
        german.compute(german.load(1), audio)


def test_a_model_that_is_not_there_is_named() -> None:
    (one,) = plan.candidates("speech-to-text", ["huge"], ["openai-whisper"], {})
    with pytest.raises(ValueError, match=r"whisper\.model is 'huge', which is neither a checkpoint's path nor one of"):
        described(work(one, ""), 1)


def test_the_drawing_model_draws_each_prompt_in_as_many_steps_as_were_set(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a red apple\na cat\n")
    candidates = plan.candidates("text-to-image", ["small-stable-diffusion"], [], {"steps": 2})
    found = outcomes(candidates, inputs.prompts(tmp_path / "texts.txt"))
    assert [(one.measured.input, one.measured.error, one.measured.text) for one in found] == [
        ("a red apple", None, None),
        ("a cat", None, None),
    ]
    assert all((one.picture or b"").startswith(b"\x89PNG") for one in found)
    assert found[0].picture != found[1].picture
