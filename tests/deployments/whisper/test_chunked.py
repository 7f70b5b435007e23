"""A recording longer than 30 s in chunks, which share batches and become one transcript."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from whisper.normalizers import EnglishTextNormalizer
from whisper.tokenizer import get_tokenizer

from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript, text_of
from deployments.whisper.chunk_boundaries import chunk_spans
from deployments.whisper.chunked import ChunkedGroup
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.sequence import SequenceGroup, unfinished
from deployments.whisper.transcription import DecodeRequest, DecodingResult
from graphs.audio.decode import decode
from testing import random_whisper, speech, tiny_whisper

pytestmark = pytest.mark.torch

RATE_HZ = 16_000
Audio = NDArray[np.int16]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    folder = tmp_path_factory.mktemp("checkpoints")
    random_whisper.write(folder)
    return random_whisper.load(folder, long_recordings="chunked")


def noise(seconds: float, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * RATE_HZ)).astype(np.int16)


def english(audio: Audio, **options: Any) -> TranscribeRequest:
    """With a temperature, since the random model repeats itself: at 0 each window would be decoded at one after the other."""
    return TranscribeRequest(audio, "en", temperature=0.4, **options)


LONG, SHORT = english(noise(70)), english(noise(2, 1))
SPANS = chunk_spans(LONG.audio)


def step(engine: WhisperEngine, *groups: SequenceGroup) -> None:
    engine.run_step([sequence for group in unfinished(groups) for sequence in group.sequences])


def finish(engine: WhisperEngine, *groups: SequenceGroup) -> list[list[int]]:
    """The rows of each group in each step."""
    steps = []
    while unfinished(groups):
        steps.append([len(group.sequences) for group in groups])
        step(engine, *groups)
    return steps


def transcript(group: SequenceGroup) -> Transcript:
    assert group.transcript is not None, group.error
    return group.transcript


def test_the_chunks_of_a_recording_share_a_step(engine: WhisperEngine) -> None:
    long = engine.prepare(LONG)
    assert isinstance(long, ChunkedGroup)
    steps = finish(engine, long)
    assert steps[0] == [len(SPANS)] == [3]
    assert transcript(long).text
    assert long.batch_size == 1, "it alone was in them"


def test_sequentially_it_takes_one_row(tmp_path: Path) -> None:
    random_whisper.write(tmp_path)
    sequential = random_whisper.load(tmp_path)
    steps = finish(sequential, sequential.prepare(LONG))
    assert len(steps) >= 3
    assert {rows for (rows,) in steps} == {1}


def test_up_to_thirty_seconds_there_are_no_chunks(engine: WhisperEngine) -> None:
    assert not isinstance(engine.prepare(english(noise(30))), ChunkedGroup)


def test_the_language_of_a_chunked_recording_is_detected_once(engine: WhisperEngine) -> None:
    long = engine.prepare(replace(LONG, language=""))
    encoded = 0

    def count(*args: object) -> None:
        nonlocal encoded
        encoded += 1

    counting = engine._model.encoder.ln_post.register_forward_hook(count)
    step(engine, long)
    counting.remove()
    assert encoded == 1 + 3, "a window for the language, then each chunk's first, all in one step"
    finish(engine, long)
    assert transcript(long) == engine.transcribe(replace(LONG, language=transcript(long).language))


def test_the_segments_of_chunks_are_emitted_in_order_though_the_last_chunk_ends_first(engine: WhisperEngine) -> None:
    emitted: list[Segment] = []
    long = engine.prepare(LONG, on_segment=emitted.append)
    last = long.sequences[-1]
    engine.run_step([long.sequences[0]])  # which has segments, and makes the state that the others begin with
    while not last.done:
        engine.run_step([last])
    early = len(emitted)
    assert all(segment.start < SPANS[0][1] / 100 for segment in emitted), "the first chunk alone"
    finish(engine, long)
    assert tuple(emitted) == transcript(long).segments
    assert text_of(emitted) == transcript(long).text
    assert len(emitted) > early
    assert [segment.start for segment in emitted] == sorted(segment.start for segment in emitted)
    assert {next(n for n, (_, end) in enumerate(SPANS) if one.start < end / 100) for one in emitted} == {0, 1, 2}


@pytest.mark.parametrize("prompt", ["", "colour, sofa"])
def test_each_chunk_is_prompted_by_the_caller_and_by_no_other_chunk(prompt: str, engine: WhisperEngine) -> None:
    tokenizer = get_tokenizer(multilingual=True)
    ten_s, cat = tokenizer.timestamp_begin + 500, tokenizer.encode(" a cat")
    result = DecodingResult([tokenizer.timestamp_begin, *cat, ten_s, ten_s], -0.1, 0.1, 0.4)
    expected = (tokenizer.sot_prev, *tokenizer.encode(f" {prompt}")) if prompt else ()
    for chunk in engine.prepare(replace(LONG, prompt=prompt)).sequences:
        chunk.begin_step(1)
        assert isinstance(chunk.request, DecodeRequest)
        assert chunk.request.initial[: chunk.request.sot] == expected
        chunk.resume(result)  # the first 10 s: it requests the rest
        assert isinstance(chunk.request, DecodeRequest)
        assert chunk.request.initial[: chunk.request.sot] == (*(expected or (tokenizer.sot_prev,)), *result.tokens[:-1])


def test_a_prompt_is_no_part_of_the_text(engine: WhisperEngine) -> None:
    assert "colour, sofa" not in engine.transcribe(replace(LONG, prompt="colour, sofa")).text


def test_in_a_batch_it_has_the_transcript_that_it_has_alone(engine: WhisperEngine) -> None:
    requests = (LONG, SHORT, english(LONG.audio[::-1]))
    alone = [engine.transcribe(request) for request in requests]
    groups = [engine.prepare(request) for request in requests]
    steps = finish(engine, *groups)
    assert steps[0] == [3, 1, 3]
    for group, one in zip(groups, alone, strict=True):
        assert transcript(group).text == one.text
        assert [(a.start, a.end) for a in transcript(group).segments] == [(b.start, b.end) for b in one.segments]


def test_the_compute_time_of_a_chunked_recording_in_a_step_is_that_of_its_rows(engine: WhisperEngine) -> None:
    long, short = engine.prepare(LONG), engine.prepare(SHORT)
    chunks = long.sequences
    step(engine, long, short)
    assert long.shared_s / long.computed_s == pytest.approx(3 / 4)
    assert short.shared_s / short.computed_s == pytest.approx(1 / 4)
    finish(engine, long, short)
    assert long.computed_s < sum(chunk.computed_s for chunk in chunks), "steps count once"


def test_no_time_of_a_chunk_is_after_its_end(engine: WhisperEngine) -> None:
    """Whisper may name any moment of 30 s, also where a chunk is shorter."""
    first = get_tokenizer(multilingual=True).timestamp_begin
    long = engine.prepare(LONG)
    for chunk in long.sequences:
        chunk.begin_step(1)
        chunk.resume(DecodingResult([first, 1000, first + 1499], -0.1, 0.1, 0.4))
    assert [(one.start, one.end) for one in transcript(long).segments] == [(a / 100, b / 100) for a, b in SPANS]


@pytest.mark.parametrize("at", [1, 2, 10])
def test_cancelling_it_ends_all_of_its_chunks(at: int, engine: WhisperEngine) -> None:
    checks, done = 0, list[SequenceGroup]()

    def cancel() -> None:
        nonlocal checks
        checks += 1
        if checks >= at:
            raise InterruptedError

    long, short = engine.prepare(LONG, check_cancelled=cancel, on_done=done.append), engine.prepare(SHORT)
    chunks = long.sequences
    step(engine, long, short)
    assert isinstance(long.error, InterruptedError)
    assert (done, long.sequences) == ([long], [])
    assert checks == at, "nothing ran for it afterwards"
    assert all(isinstance(chunk.error, InterruptedError) for chunk in chunks)
    finish(engine, short)
    assert transcript(short) == engine.transcribe(SHORT)


def test_an_error_while_emitting_ends_it_once_and_the_others_go_on(engine: WhisperEngine) -> None:
    done: list[SequenceGroup] = []

    def fail(segment: Segment) -> None:
        raise BrokenPipeError

    long, short = engine.prepare(LONG, on_segment=fail, on_done=done.append), engine.prepare(SHORT)
    finish(engine, long, short)
    assert isinstance(long.error, BrokenPipeError)
    assert done == [long]
    assert short.transcript is not None


# With tiny.en.


@pytest.fixture(scope="module")
def tiny() -> WhisperEngine:
    return tiny_whisper.load(long_recordings="chunked")


def sentence(name: str) -> Audio:
    return decode((speech.HERE / f"{name}.ogg").read_bytes(), 60)


def normal(text: str) -> list[str]:
    return str(EnglishTextNormalizer()(text)).split()


WORDS = {path.stem: normal(text) for path, text in speech.sentences().items()}
PAUSE = np.zeros(RATE_HZ // 2, np.int16)


def joined(*names: str) -> tuple[Audio, list[str]]:
    """Sentences one after the other with pauses, and their words."""
    audio = np.concatenate([part for name in names for part in (sentence(name), PAUSE)])
    return audio, [word for name in names for word in WORDS[name]]


def error_rate(words: list[str], text: str) -> float:
    from benchmarks.padding import word_errors

    return word_errors(words, normal(text)) / len(words)


@pytest.mark.slow
def test_the_text_of_a_long_recording_is_its_words_in_order(tiny: WhisperEngine) -> None:
    names = [f"{name}-{voice}" for voice in speech.VOICES for name in ("village", "boat", "tree", "castle", "market", "oranges")]
    audio, words = joined(*names)
    assert audio.size > 35 * RATE_HZ
    emitted: list[Segment] = []
    long = tiny.transcribe(TranscribeRequest(audio), on_segment=emitted.append)
    assert error_rate(words, long.text) < 0.1
    assert tuple(emitted) == long.segments
    times = [time for segment in emitted for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(audio.size / RATE_HZ, abs=2)
    assert normal(" ".join(segment.text for segment in emitted)) == normal(long.text)


@pytest.mark.slow
def test_a_long_and_a_short_recording_share_steps_without_an_effect_on_their_texts(tiny: WhisperEngine) -> None:
    audio, _ = joined(*list(WORDS)[:10])
    alone = tiny.transcribe(TranscribeRequest(audio)).text
    groups = [tiny.prepare(TranscribeRequest(audio)), tiny.prepare(TranscribeRequest(sentence("cat-slt")))]
    steps = finish(tiny, *groups)
    assert steps[0] == [len(chunk_spans(audio)), 1]
    assert [transcript(group).text for group in groups] == [alone, "A black cat sleeping on a blue sofa."]


@pytest.mark.slow
@pytest.mark.parametrize("loud", [0, 30])
def test_a_chunk_of_silence_has_no_text(loud: int, tiny: WhisperEngine) -> None:
    before, words_before = joined("village-slt", "boat-rms", "tree-slt")
    after, words_after = joined("market-slt", "oranges-rms", "penguins-slt")
    silence = np.random.default_rng(0).integers(-loud, loud + 1, 60 * RATE_HZ).astype(np.int16)
    whole = tiny.transcribe(TranscribeRequest(np.concatenate([before, silence, after])))
    assert error_rate(words_before + words_after, whole.text) < 0.1
    silent_s = (before.size / RATE_HZ + 1, (before.size + silence.size) / RATE_HZ - 1)
    assert not [one for one in whole.segments if one.text and silent_s[0] < one.start and one.end < silent_s[1]]
