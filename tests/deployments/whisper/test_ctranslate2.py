"""The second engine of the Whisper room, CTranslate2: what it hears beside openai-whisper's, of the same weights and on the same walk."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray
from safetensors.torch import save_file

from deployments.errors import InvalidInput
from deployments.whisper import adaptive_padding
from deployments.whisper.adaptive_padding import LEAST_FRAMES
from deployments.whisper.backends import ct2_export
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.sequence import Voice
from deployments.whisper.transcription import Segment
from deployments.whisper.weights import convert
from graphs.audio.decode import decode
from testing import speech, tiny_whisper
from testing.service import ROOT

SENTENCES = {path: text for path, text in speech.sentences().items() if path.stem.endswith("-slt")}
REAL = [speech.HERE / "real" / name for name in json.loads((speech.HERE / "real" / "said.json").read_text())]


def heard_in(path: Path) -> NDArray[np.int16]:
    return decode(path.read_bytes(), 60)


CAT = heard_in(speech.HERE / "cat-slt.ogg")
LONG = np.concatenate([heard_in(path) for path in [*SENTENCES, *REAL]])[: 75 * 16_000]


def tiny(engine: str, **options: Any) -> WhisperEngine:
    return tiny_whisper.load(engine=engine, **options)


@pytest.fixture(scope="module")
def stock() -> WhisperEngine:
    return tiny("openai-whisper")


@pytest.fixture(scope="module")
def faster() -> WhisperEngine:
    """As it is by default: int8."""
    return tiny("faster-whisper")


@pytest.fixture(scope="module")
def exact() -> WhisperEngine:
    return tiny("faster-whisper", precision="fp32")


DIMS = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 32, "n_audio_head": 2, "n_audio_layer": 3}
DIMS |= {"n_vocab": 51865, "n_text_ctx": 64, "n_text_state": 32, "n_text_head": 2, "n_text_layer": 2}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual Whisper of random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(1)
    state = whisper.Whisper(whisper.ModelDimensions(**DIMS)).state_dict()
    state = {name: value * 4 if value.ndim > 1 else value for name, value in state.items()}  # else every sound is alike
    state["decoder.positional_embedding"] = torch.randn(64, 32)  # which is left as memory was
    save_file(state, folder / "random.safetensors", metadata={"dims": json.dumps(DIMS)})
    return folder


@pytest.fixture(scope="module")
def multilingual(checkpoints: Path) -> WhisperEngine:
    return WhisperEngine("random", checkpoints, engine="faster-whisper", precision="fp32")


def listen(engine: WhisperEngine, *voices: Voice) -> None:
    while still := [voice for voice in voices if not voice.done]:
        engine.listen(still)


def same(ours: tuple[Segment, ...], theirs: tuple[Segment, ...], within: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.start_s, one.end_s, one.text) == (other.start_s, other.end_s, other.text)
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=within)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=within)


def test_the_converted_model_has_every_array_where_ctranslate2_has_it(tmp_path: Path) -> None:
    """By the reader of CTranslate2's files, with which set-up reads those that others have converted."""
    model = whisper.Whisper(whisper.ModelDimensions(**DIMS))
    for value in model.parameters():
        value.data.normal_()
    before = {name: value.half().numpy().copy() for name, value in model.state_dict().items()}
    ct2_export.save(model, tmp_path, "float16")
    dims, state = convert(tmp_path / "model.bin")
    assert dims == DIMS
    assert {name: value.tobytes() for name, value in state.items()} == {name: value.tobytes() for name, value in before.items()}


def test_in_fp32_it_hears_what_openai_whisper_hears(exact: WhisperEngine, stock: WhisperEngine) -> None:
    for path in list(SENTENCES)[:4]:
        ours, theirs = (engine.transcribe(heard_in(path)) for engine in (exact, stock))
        assert (ours.text, ours.language) == (theirs.text, theirs.language)
        same(ours.segments, theirs.segments, within=2e-3)


@pytest.mark.slow
def test_of_more_than_a_window_too_with_a_prompt_and_each_segment_told(exact: WhisperEngine, stock: WhisperEngine) -> None:
    told: list[Segment] = []
    prompt = "A black cat, a lighthouse."
    ours = exact.transcribe(LONG, prompt=prompt, tell=told.append)
    theirs = stock.transcribe(LONG, prompt=prompt)
    assert ours.text == theirs.text
    assert tuple(told) == ours.segments
    assert ours.segments[-1].end_s > 60
    same(ours.segments, theirs.segments, within=1e-2)


INSTRUCTION_SETS = ("GENERIC", "AVX", "AVX2", "AVX512")
"""CTranslate2's names for those that it has kernels for."""
MOST_POINTS_WORSE = 2.0
"""Of the word error rate, which is 9%; on four instruction sets the intervals ended at 0.4 to 1.1."""


def misheard(engine: str, instruction_set: str = "") -> list[tuple[int, int]] | None:
    """Errors and words of each recording, by a process of its own; None where the CPU has no such instructions."""
    env = os.environ | ({"CT2_FORCE_CPU_ISA": instruction_set} if instruction_set else {})
    command = [sys.executable, "-m", "testing.mishearings", engine]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=550, check=False)
    if result.returncode and "CPU does not support" in result.stderr:
        return None
    assert result.returncode == 0, result.stderr
    return [(wrong, words) for wrong, words in json.loads(result.stdout)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_in_int8_it_mishears_as_little_as_openai_whisper_on_every_instruction_set() -> None:
    """Over all test speech, four voices at several speeds: the 95% interval of the difference, recording by recording."""
    from benchmarks.measure import interval

    with ThreadPoolExecutor(2) as pool:
        exact = pool.submit(misheard, "openai-whisper")
        int8 = {name: pool.submit(misheard, "faster-whisper", name) for name in INSTRUCTION_SETS}
    stock = exact.result() or []
    assert len(stock) >= 100
    points = 100 * len(stock) / sum(words for _, words in stock)
    worse = {}
    for name, ours in int8.items():
        if found := ours.result():
            differences = [wrong - least for (wrong, _), (least, _) in zip(found, stock, strict=True)]
            worse[name] = [round(points * end, 2) for end in interval(differences, statistics.fmean)]
    assert worse.keys() >= {"GENERIC", "AVX2"}, "every CPU that Triton and torch run on has these"
    assert {name: ends for name, ends in worse.items() if ends[1] > MOST_POINTS_WORSE} == {}


def test_each_of_a_batch_is_heard_as_if_it_were_alone(faster: WhisperEngine) -> None:
    """They differ in length, one has a prompt, and one is more than a window."""
    paths = list(SENTENCES)[:4]
    asked: list[tuple[NDArray[np.int16], dict[str, str]]] = [(heard_in(path), {}) for path in paths]
    asked += [(CAT, {"prompt": "A DOG ON A GREEN SOFA."}), (LONG[: 33 * 16_000], {"language": "en"})]
    alone = [faster.transcribe(audio, **options) for audio, options in asked]
    voices = [faster.voice(audio, **options) for audio, options in asked]
    listen(faster, *voices)
    for voice, one in zip(voices, alone, strict=True):
        assert voice.answer is not None, voice.error
        assert voice.answer.text == one.text
        same(voice.answer.segments, one.segments, within=1e-3)
    assert max(voice.batch_size for voice in voices) == len(asked)


def leaving_at(number: int) -> tuple[Callable[[], None], list[int]]:
    """What polls, and leaves at the poll of this number."""
    polls: list[int] = []

    def poll() -> None:
        polls.append(number)
        if len(polls) == number:
            raise InterruptedError

    return poll, polls


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_that_leaves_goes_before_or_after_a_window_and_the_others_go_on(number: int, faster: WhisperEngine) -> None:
    poll, polls = leaving_at(number)
    leaving, staying = faster.voice(CAT, poll=poll), faster.voice(CAT)
    listen(faster, leaving, staying)
    assert isinstance(leaving.error, InterruptedError)
    assert len(polls) == number, "it is asked no more"
    assert staying.answer is not None
    assert staying.answer.text.lower() == "a black cat sleeping on a blue sofa."


def test_one_that_fails_fails_alone(faster: WhisperEngine) -> None:
    def cannot_be_told(segment: Segment) -> None:
        raise BrokenPipeError

    failing, staying = faster.voice(CAT, tell=cannot_be_told), faster.voice(CAT)
    listen(faster, failing, staying)
    assert isinstance(failing.error, BrokenPipeError)
    assert staying.answer is not None


def test_an_encoder_that_fails_fails_for_its_recording_alone(faster: WhisperEngine) -> None:
    failing, staying = faster.voice(CAT), faster.voice(CAT)
    failing.enter(1)
    assert failing.asks is not None
    failing.asks.window.mel = torch.zeros(7, 3000)  # which the model cannot take
    listen(faster, failing, staying)
    assert isinstance(failing.error, ValueError)
    assert staying.answer is not None


def test_without_padding_the_encoder_is_given_what_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny("faster-whisper", padding="in doubt")
    encode, frames = engine._listener._sound, list[int]()
    monkeypatch.setattr(engine._listener, "_sound", lambda mel: (frames.append(mel.shape[-1]), encode(mel))[1])
    assert engine.transcribe(CAT).text.lower() == "a black cat sleeping on a blue sofa."
    assert frames == [LEAST_FRAMES]
    frames.clear()
    monkeypatch.setattr(adaptive_padding, "LEAST_FRAMES", 60)
    monkeypatch.setattr(adaptive_padding, "MARGIN_FRAMES", 0)
    text = engine.transcribe(CAT[: CAT.size // 3]).text  # half a second encoded as such makes it say the same without end
    assert len(frames) == 2
    assert frames[-1] == 3000
    assert text == tiny("faster-whisper").transcribe(CAT[: CAT.size // 3]).text


def test_what_is_drawn_by_lot_is_still_words(faster: WhisperEngine) -> None:
    voices = [faster.voice(CAT, temperature=temperature) for temperature in (0.0, 0.2, 0.2)]
    listen(faster, *voices)
    for voice in voices:
        assert voice.answer is not None
        assert "cat" in voice.answer.text


def test_a_language_is_heard_as_openai_whisper_hears_it(multilingual: WhisperEngine, checkpoints: Path) -> None:
    """Of random weights, which draw by lot: the language alone is compared."""
    stock = WhisperEngine("random", checkpoints)
    sounds = [np.random.default_rng(seed).integers(-9000, 9000, 16_000 * seed).astype(np.int16) for seed in (1, 2, 3)]
    voices = [multilingual.voice(audio) for audio in [*sounds, CAT]]
    listen(multilingual, *voices)
    languages = [voice.answer.language for voice in voices if voice.answer]
    assert languages == [stock.transcribe(audio).language for audio in [*sounds, CAT]]


def test_languages_and_tasks_are_refused_with_the_same_sentences(multilingual: WhisperEngine, faster: WhisperEngine) -> None:
    for language, task in (("de", "transcribe"), ("", "translate")):
        with pytest.raises(InvalidInput, match=r"tiny\.en, which is English-only: set whisper\.model to a multilingual one"):
            faster.voice(CAT, language, task)
    for engine in (multilingual, faster):
        with pytest.raises(InvalidInput, match="a code that Whisper knows"):
            engine.voice(CAT, "klingon")
        with pytest.raises(InvalidInput, match="task must be one of transcribe, translate"):
            engine.voice(CAT, "en", "sing")
    assert multilingual.transcribe(np.zeros(0, np.int16), "German", "translate").language == "de"


def test_a_precision_that_the_processor_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(
        ValueError, match=r"whisper\.precision is fp16, in which CTranslate2 does not .* on this cpu: .* int8, fp32"
    ):
        tiny("faster-whisper", precision="fp16")


def test_a_folder_in_ctranslate2s_format_is_taken_as_it_is(tmp_path: Path, stock: WhisperEngine) -> None:
    ct2_export.save(tiny("openai-whisper")._model, tmp_path, "int8")
    engine = WhisperEngine(str(tmp_path), Path("/nowhere"), engine="faster-whisper")
    assert engine.transcribe(CAT).text.lower() == "a black cat sleeping on a blue sofa."


def test_the_other_engine_loads_nothing_of_it() -> None:
    program = "import sys, deployments.whisper.engine; print('ctranslate2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
