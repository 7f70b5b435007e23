"""Whisper's second engine, CTranslate2, beside openai-whisper's: the same weights, and the same loop over the windows."""

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray

from deployments.errors import InvalidInput
from deployments.roles.speech_to_text import Segment, TranscribeRequest, text_of
from deployments.whisper import adaptive_padding
from deployments.whisper.adaptive_padding import MIN_FRAMES
from deployments.whisper.backends import ct2_export, ctranslate2
from deployments.whisper.backends.ct2_import import convert
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.sequence import SequenceGroup, unfinished
from deployments.whisper.types import EngineConfig
from graphs.audio.decode import decode
from testing import random_whisper, speech, tiny_whisper
from testing.service import ROOT

pytestmark = pytest.mark.torch

SENTENCES = {path: text for path, text in speech.sentences().items() if path.stem.endswith("-slt")}
REAL = [speech.HERE / "real" / name for name in json.loads((speech.HERE / "real" / "transcripts.json").read_text())]


def audio_of(path: Path) -> NDArray[np.int16]:
    return decode(path.read_bytes(), 60)


CAT = audio_of(speech.HERE / "cat-slt.ogg")
LONG = np.concatenate([audio_of(path) for path in [*SENTENCES, *REAL]])[: 75 * 16_000]


def tiny(engine: str, **options: Any) -> WhisperEngine:
    return tiny_whisper.load(engine=engine, **options)


@pytest.fixture(scope="module")
def stock() -> WhisperEngine:
    return tiny("openai-whisper")


@pytest.fixture(scope="module")
def faster() -> WhisperEngine:
    """At its default precision, int8."""
    return tiny("faster-whisper")


@pytest.fixture(scope="module")
def exact() -> WhisperEngine:
    return tiny("faster-whisper", precision="fp32")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual Whisper of random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    random_whisper.write(folder, state_size=32, audio_layers=3)
    return folder


@pytest.fixture(scope="module")
def multilingual(checkpoints: Path) -> WhisperEngine:
    return random_whisper.load(checkpoints, engine="faster-whisper", precision="fp32")


CAT_REQUEST = TranscribeRequest(CAT)
CAT_TEXT = "a black cat sleeping on a blue sofa."


def finish(engine: WhisperEngine, *groups: SequenceGroup) -> None:
    while unfinished(groups):
        engine.run_step([sequence for group in unfinished(groups) for sequence in group.sequences])


def assert_equal(ours: tuple[Segment, ...], theirs: tuple[Segment, ...], within: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.start, one.end, one.text) == (other.start, other.end, other.text)
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=within)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=within)


def test_the_exported_model_has_every_array_where_ctranslate2_has_it(tmp_path: Path) -> None:
    """By the reader of CTranslate2's files, with which set-up reads those of the package index."""
    dims = random_whisper.write(tmp_path, state_size=32, audio_layers=3)
    model = whisper.Whisper(whisper.ModelDimensions(**dims))
    for value in model.parameters():
        value.data.normal_()
    before = {name: value.half().numpy().copy() for name, value in model.state_dict().items()}
    ct2_export.save(model, tmp_path, "float16")
    read_dims, state = convert(tmp_path / "model.bin")
    assert read_dims == dims
    assert {name: value.tobytes() for name, value in state.items()} == {name: value.tobytes() for name, value in before.items()}


def test_in_fp32_its_transcript_is_that_of_openai_whisper(exact: WhisperEngine, stock: WhisperEngine) -> None:
    for path in list(SENTENCES)[:4]:
        ours, theirs = (engine.transcribe(TranscribeRequest(audio_of(path))) for engine in (exact, stock))
        assert (ours.text, ours.language) == (theirs.text, theirs.language)
        assert_equal(ours.segments, theirs.segments, within=2e-3)


@pytest.mark.slow
def test_so_is_that_of_several_windows_with_a_prompt_and_each_segment_emitted(exact: WhisperEngine, stock: WhisperEngine) -> None:
    emitted: list[Segment] = []
    request = TranscribeRequest(LONG, prompt="A black cat, a lighthouse.")
    ours = exact.transcribe(request, on_segment=emitted.append)
    theirs = stock.transcribe(request)
    assert ours.text == theirs.text
    assert tuple(emitted) == ours.segments
    assert text_of(emitted) == ours.text
    assert ours.segments[-1].end > 60
    assert_equal(ours.segments, theirs.segments, within=1e-2)


CPUS = {
    "this": {},
    "AVX2": {"CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
"""Variables that make a CPU with more behave as one that has just these instructions: CTranslate2's own, and those of oneDNN and MKL, which
multiply its matrices."""
MOST_POINTS_WORSE = 2.0
"""Of the word error rate, which is 9%; on all four instruction sets the intervals ended at 0.4 to 1.1."""


def word_errors(engine: str, cpu: str = "this") -> list[tuple[int, int]]:
    """Errors and words of each recording, by a process of its own."""
    env = os.environ | CPUS[cpu]
    command = [sys.executable, "-m", "testing.word_errors", engine]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=550, check=False)
    assert result.returncode == 0, result.stderr
    return [(wrong, words) for wrong, words in json.loads(result.stdout)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_in_int8_its_word_error_rate_is_that_of_openai_whisper() -> None:
    """Over all test speech, four voices at several speeds: the 95% interval of the difference, recording by recording."""
    from benchmarks.measure import interval

    with ThreadPoolExecutor(2) as pool:
        exact = pool.submit(word_errors, "openai-whisper")
        int8 = {name: pool.submit(word_errors, "faster-whisper", name) for name in CPUS}
    stock = exact.result()
    assert len(stock) >= 100
    points = 100 * len(stock) / sum(words for _, words in stock)
    worse = {}
    for name, ours in int8.items():
        differences = [wrong - stock_wrong for (wrong, _), (stock_wrong, _) in zip(ours.result(), stock, strict=True)]
        worse[name] = [round(points * end, 2) for end in interval(differences, statistics.fmean)]
    assert {name: ends for name, ends in worse.items() if ends[1] > MOST_POINTS_WORSE} == {}


def test_each_recording_of_a_batch_has_the_transcript_that_it_has_alone(faster: WhisperEngine) -> None:
    """Requests that differ in length, one has a prompt, and one is more than a window."""
    requests = [TranscribeRequest(audio_of(path)) for path in list(SENTENCES)[:4]]
    requests += [TranscribeRequest(CAT, prompt="A DOG ON A GREEN SOFA."), TranscribeRequest(LONG[: 33 * 16_000], "en")]
    alone = [faster.transcribe(request) for request in requests]
    groups = [faster.prepare(request) for request in requests]
    finish(faster, *groups)
    for group, one in zip(groups, alone, strict=True):
        assert group.transcript is not None, group.error
        assert group.transcript.text == one.text
        assert_equal(group.transcript.segments, one.segments, within=1e-3)
    assert max(group.batch_size for group in groups) == len(requests)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_cancelled_recording_ends_before_or_after_a_window_and_the_others_go_on(number: int, faster: WhisperEngine) -> None:
    checks = 0

    def cancel() -> None:
        nonlocal checks
        checks += 1
        if checks == number:
            raise InterruptedError

    cancelled, other = faster.prepare(CAT_REQUEST, check_cancelled=cancel), faster.prepare(CAT_REQUEST)
    finish(faster, cancelled, other)
    assert isinstance(cancelled.error, InterruptedError)
    assert checks == number, "nothing ran for it afterwards"
    assert other.transcript is not None
    assert other.transcript.text.lower() == CAT_TEXT


def test_an_error_ends_its_own_recording_alone(faster: WhisperEngine) -> None:
    def fail(segment: Segment) -> None:
        raise BrokenPipeError

    failing, other = faster.prepare(CAT_REQUEST, on_segment=fail), faster.prepare(CAT_REQUEST)
    finish(faster, failing, other)
    assert isinstance(failing.error, BrokenPipeError)
    assert other.transcript is not None


def test_an_error_in_the_encoder_ends_its_own_recording_alone(faster: WhisperEngine) -> None:
    failing, other = faster.prepare(CAT_REQUEST), faster.prepare(CAT_REQUEST)
    (sequence,) = failing.sequences
    sequence.begin_step(1)
    assert sequence.request is not None
    sequence.request.window.mel = torch.zeros(7, 3000)  # which the model cannot take
    finish(faster, failing, other)
    assert isinstance(failing.error, ValueError)
    assert other.transcript is not None


def test_without_padding_the_encoder_reads_the_recording_and_a_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny("faster-whisper", padding="adaptive")
    encode, frames = engine._backend._encoded, list[int]()
    monkeypatch.setattr(engine._backend, "_encoded", lambda mel: (frames.append(mel.shape[-1]), encode(mel))[1])
    assert engine.transcribe(CAT_REQUEST).text.lower() == CAT_TEXT
    assert frames == [MIN_FRAMES]
    frames.clear()
    monkeypatch.setattr(adaptive_padding, "MIN_FRAMES", 60)
    monkeypatch.setattr(adaptive_padding, "MARGIN_FRAMES", 0)
    short = TranscribeRequest(CAT[: CAT.size // 3])
    text = engine.transcribe(short).text  # half a second encoded as such makes it repeat itself without end
    assert len(frames) == 2
    assert frames[-1] == 3000
    assert text == tiny("faster-whisper").transcribe(short).text


def test_a_sampled_text_still_has_the_words(faster: WhisperEngine) -> None:
    groups = [faster.prepare(TranscribeRequest(CAT, temperature=temperature)) for temperature in (0.0, 0.2, 0.2)]
    finish(faster, *groups)
    for group in groups:
        assert group.transcript is not None
        assert "cat" in group.transcript.text


def test_a_detected_language_is_that_of_openai_whisper(multilingual: WhisperEngine, checkpoints: Path) -> None:
    """Random weights fall back to sampling: the language alone is compared."""
    stock = random_whisper.load(checkpoints)
    audios = [np.random.default_rng(seed).integers(-9000, 9000, 16_000 * seed).astype(np.int16) for seed in (1, 2, 3)]
    requests = [TranscribeRequest(audio) for audio in [*audios, CAT]]
    groups = [multilingual.prepare(request) for request in requests]
    finish(multilingual, *groups)
    languages = [group.transcript.language for group in groups if group.transcript]
    assert languages == [stock.transcribe(request).language for request in requests]


def test_languages_and_tasks_are_refused_with_the_same_sentences(multilingual: WhisperEngine, faster: WhisperEngine) -> None:
    for language, task in (("de", "transcribe"), ("", "translate")):
        with pytest.raises(InvalidInput, match=r"tiny\.en, which is English-only: set whisper\.model to a multilingual one"):
            faster.prepare(TranscribeRequest(CAT, language, task))
    for engine in (multilingual, faster):
        with pytest.raises(InvalidInput, match="a code that Whisper knows"):
            engine.prepare(TranscribeRequest(CAT, "klingon"))
        with pytest.raises(InvalidInput, match="task must be one of transcribe, translate"):
            engine.prepare(TranscribeRequest(CAT, "en", "sing"))
    assert multilingual.transcribe(TranscribeRequest(np.zeros(0, np.int16), "German", "translate")).language == "de"


@pytest.mark.parametrize(
    ("vendor", "chosen", "expected"), [("AuthenticAMD", "", "AVX2"), ("AuthenticAMD", "ALL", "ALL"), ("GenuineIntel", "", "")]
)
def test_onednn_is_kept_to_avx2_where_ctranslate2_multiplies_by_it(
    vendor: str, chosen: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(ctranslate2, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "environ", {"ONEDNN_MAX_CPU_ISA": chosen} if chosen else {})
    ctranslate2.limit_onednn()
    assert os.environ.get("ONEDNN_MAX_CPU_ISA", "") == expected


def test_a_precision_that_the_processor_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(
        ValueError, match=r"whisper\.precision is fp16, in which CTranslate2 does not .* on this cpu: .* int8, fp32"
    ):
        tiny("faster-whisper", precision="fp16")


def test_a_folder_in_ctranslate2s_format_is_taken_as_it_is(tmp_path: Path, stock: WhisperEngine) -> None:
    ct2_export.save(tiny("openai-whisper")._model, tmp_path, "int8")
    engine = WhisperEngine(EngineConfig(str(tmp_path), "/nowhere", engine="faster-whisper"))
    assert engine.transcribe(CAT_REQUEST).text.lower() == CAT_TEXT


def test_the_other_engine_loads_nothing_of_it() -> None:
    program = "import sys, deployments.whisper.engine; print('ctranslate2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
