"""The Whisper engine in torch, called directly: its checkpoints, its languages, and its transcripts."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray
from safetensors.torch import save_file

from deployments.errors import InvalidInput
from deployments.roles.speech_to_text import Segment, TranscribeRequest, text_of
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.types import EngineConfig
from graphs.audio.decode import decode
from testing import speech, tiny_whisper
from testing.fakes import Trap

pytestmark = pytest.mark.torch


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


def load(model: str, weights: Path, **options: Any) -> WhisperEngine:
    return WhisperEngine(EngineConfig(model, str(weights), **options))


def test_a_checkpoint_is_found_by_name_and_by_path(checkpoints: Path) -> None:
    for model in ("multilingual", str(checkpoints / "multilingual.safetensors"), str(checkpoints / "multilingual.pt")):
        assert load(model, checkpoints).transcribe(TranscribeRequest(NOTHING, "de")).language == "de"


@pytest.mark.parametrize("model", ["tiny.fr", "../english", "/no/such/model.safetensors", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(model: str, checkpoints: Path) -> None:
    with pytest.raises(ValueError, match=r"whisper\.model is .*, which is neither a checkpoint's path nor one of tiny\.en, "):
        load(model, checkpoints)


def test_a_checkpoint_that_would_run_code_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "trap.pt")
    with pytest.raises(pickle.UnpicklingError):
        load(str(tmp_path / "trap.pt"), checkpoints)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("language", "task"), [("de", "transcribe"), ("German", "transcribe"), ("", "translate"), ("en", "translate")]
)
def test_an_english_model_refuses_more_and_names_the_setting(language: str, task: str, checkpoints: Path) -> None:
    with pytest.raises(InvalidInput, match=r"english, which is English-only: set whisper\.model to a multilingual one"):
        load("english", checkpoints).transcribe(TranscribeRequest(NOTHING, language, task))


@pytest.mark.parametrize("language", ["", "en", "English", "EN"])
def test_an_english_model_takes_english(language: str, checkpoints: Path) -> None:
    assert load("english", checkpoints).transcribe(TranscribeRequest(NOTHING, language)).language == "en"


@pytest.mark.parametrize(
    ("language", "code"), [("de", "de"), ("German", "de"), ("mandarin", "zh"), ("JA", "ja"), ("Castilian", "es")]
)
def test_a_multilingual_model_takes_codes_and_english_names(language: str, code: str, checkpoints: Path) -> None:
    assert load("multilingual", checkpoints).transcribe(TranscribeRequest(NOTHING, language, "translate")).language == code


@pytest.mark.parametrize("language", ["klingon", "deutsch", "xx", "e"])
@pytest.mark.parametrize("model", ["english", "multilingual"])
def test_a_language_unknown_to_whisper_is_refused(model: str, language: str, checkpoints: Path) -> None:
    with pytest.raises(InvalidInput, match="a code that Whisper knows"):
        load(model, checkpoints).transcribe(TranscribeRequest(NOTHING, language))


def test_torch_has_the_threads_of_the_config(checkpoints: Path) -> None:
    for threads in (2, 1):
        load("english", checkpoints, threads=threads)
        assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (threads, 1)


CAT_TEXT = "A black cat sleeping on a blue sofa."


def speech_of(*names: str) -> NDArray[np.int16]:
    return np.concatenate([decode((speech.HERE / f"{name}.ogg").read_bytes(), 60) for name in names])


@pytest.fixture(scope="module")
def tiny() -> WhisperEngine:
    return tiny_whisper.load()


def test_the_installed_model_transcribes_a_sentence(tiny: WhisperEngine) -> None:
    transcript = tiny.transcribe(TranscribeRequest(speech_of("cat-slt")))
    assert transcript.text == CAT_TEXT
    assert (transcript.language, transcript.segments[0].text) == ("en", f" {transcript.text}")
    assert 0 <= transcript.segments[0].start < transcript.segments[0].end <= 30
    assert transcript.segments[0].no_speech_prob < 0.5


LONG = speech_of(
    *(f"{name}-{voice}" for name in ("village", "boat", "tree", "castle", "market", "oranges") for voice in speech.VOICES)
)
"""More than one window; the text of one is the next one's prompt."""
FAINT = (speech_of("cat-slt") // 200 + np.random.default_rng(0).integers(-90, 90, speech_of("cat-slt").size)).astype(np.int16)
"""Noise with faint speech in it: the first temperatures fail."""


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(speech_of("cat-slt"), id="one sentence"),
        pytest.param(speech_of("cat-rms", "cat-slt"), id="two"),
        pytest.param(LONG, id="several windows", marks=pytest.mark.slow),
        pytest.param(FAINT, id="faint", marks=pytest.mark.slow),
        pytest.param(np.zeros(40_000, np.int16), id="silence"),
    ],
)
def test_the_transcript_is_that_of_openai_whisper(audio: NDArray[np.int16], tiny: WhisperEngine) -> None:
    torch.manual_seed(0)
    stock = whisper.transcribe(tiny._model, audio.astype(np.float32) / 32768, language="en", fp16=False)
    emitted: list[Segment] = []
    transcript = tiny.transcribe(TranscribeRequest(audio), on_segment=emitted.append)
    assert transcript.text == stock["text"].strip()
    for ours, theirs in zip(transcript.segments, stock["segments"], strict=True):
        assert (ours.start, ours.end, ours.text) == (theirs["start"], theirs["end"], theirs["text"])
        assert ours.avg_logprob == pytest.approx(theirs["avg_logprob"], abs=1e-3)
        assert ours.no_speech_prob == pytest.approx(theirs["no_speech_prob"], abs=1e-3)
    assert tuple(emitted) == transcript.segments
    assert text_of(emitted) == transcript.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "temperature"),
    [("Sopha, colour.", 0.0), ("<|endoftext|> a cat", 0.0), ("many words " * 300, 0.0), ("", 0.7), ("A film script:", 1.0)],
)
def test_a_prompt_and_a_temperature_have_the_effect_of_openai_whispers(
    prompt: str, temperature: float, tiny: WhisperEngine
) -> None:
    audio = speech_of("cat-slt")
    encode = whisper.tokenizer.get_tokenizer(False).encoding.encode
    torch.manual_seed(0)
    options = {"temperature": temperature} if temperature else {}
    if "<|" not in prompt:  # openai-whisper fails on such a prompt
        options |= {"initial_prompt": prompt or None}
        stock = whisper.transcribe(tiny._model, audio.astype(np.float32) / 32768, language="en", fp16=False, **options)["text"]
        assert tiny.transcribe(TranscribeRequest(audio, prompt=prompt, temperature=temperature)).text == stock.strip()
    else:
        assert encode(prompt, disallowed_special=()) != [50256]
        assert "cat" in tiny.transcribe(TranscribeRequest(audio, prompt=prompt, temperature=temperature)).text
    assert tiny.transcribe(TranscribeRequest(audio)).text == CAT_TEXT, "the next request is unaffected"


def test_a_prompt_changes_how_a_word_is_spelled(tiny: WhisperEngine) -> None:
    audio = speech_of("cat-slt")
    assert "sofa" in tiny.transcribe(TranscribeRequest(audio)).text
    assert "SOFA" in tiny.transcribe(TranscribeRequest(audio, prompt="A DOG ON A GREEN SOFA. A BLACK CAT. A BLUE")).text


@pytest.mark.slow
def test_a_transcription_can_be_cancelled_before_every_encoder_block_and_every_token(tiny: WhisperEngine) -> None:
    request = TranscribeRequest(speech_of("cat-slt"))
    checks = Checks()
    text = tiny.transcribe(request, check_cancelled=checks).text
    blocks = len(tiny._model.encoder.blocks)
    tokens = len(whisper.tokenizer.get_tokenizer(False).encode(" " + text))
    assert blocks + tokens <= checks.count <= blocks + tokens + 10
    for at in (1, blocks, blocks + 1, checks.count):
        cancelling = Checks(at)
        with pytest.raises(InterruptedError):
            tiny.transcribe(request, check_cancelled=cancelling)
        assert cancelling.count == at, "nothing ran after it"
        assert tiny.transcribe(request).text == text, "the next request is unaffected"


class Checks:
    """Counter of the checks for cancellation, which cancels at number `at`."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self._at:
            raise InterruptedError


@pytest.mark.slow
def test_the_multilingual_base_is_one_setting_away(tmp_path: Path) -> None:
    """Needs a download of 145 MB from OpenAI, or 133 MB from the Python package index."""
    cat = speech_of("cat-slt")
    for name in ("openai-whisper", "faster-whisper"):
        engine = load("base", tmp_path, engine=name)
        transcript = engine.transcribe(TranscribeRequest(cat))
        assert "cat" in transcript.text.lower()
        assert transcript.language == "en"
        assert engine.transcribe(TranscribeRequest(cat, "german", "translate")).language == "de"
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["base.safetensors"]
