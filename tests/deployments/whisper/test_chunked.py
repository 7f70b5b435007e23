"""A recording longer than 30 s: its pieces are heard together, and it is one recording all the same."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from whisper.normalizers import EnglishTextNormalizer
from whisper.tokenizer import get_tokenizer

from deployments.whisper.chunk_boundaries import spans
from deployments.whisper.chunked import Pieces
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.sequence import Recording
from deployments.whisper.transcription import Attempt, Heard, Segment
from graphs.audio.decode import decode
from testing import random_whisper, speech, tiny_whisper

RATE_HZ = 16_000
Audio = NDArray[np.int16]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    folder = tmp_path_factory.mktemp("checkpoints")
    random_whisper.write(folder)
    return WhisperEngine(random_whisper.NAME, folder, long_recordings="cut at silence")


def noise(seconds: float, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * RATE_HZ)).astype(np.int16)


LONG, SHORT = noise(70), noise(2, 1)
ENGLISH = {"language": "en", "temperature": 0.4}
"""A temperature, since the random model repeats itself: with 0 it is tried again and again."""


def hear(engine: WhisperEngine, *recordings: Recording) -> list[list[int]]:
    """Of each pass: the rows of each recording that were in it."""
    passes = []
    while still := [recording for recording in recordings if not recording.done]:
        passes.append([len(recording.rows) for recording in recordings])
        engine.listen(still)
    return passes


def test_its_pieces_are_heard_in_one_pass(engine: WhisperEngine) -> None:
    long = engine.voice(LONG, **ENGLISH)
    assert isinstance(long, Pieces)
    passes = hear(engine, long)
    assert passes[0] == [len(spans(LONG))] == [3]
    assert long.answer is not None
    assert long.answer.text
    assert long.batch_size == 1, "it alone was in them"


def test_one_by_one_it_takes_a_row(engine: WhisperEngine, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    random_whisper.write(folder)
    one_by_one = WhisperEngine(random_whisper.NAME, folder)
    passes = hear(one_by_one, one_by_one.voice(LONG, **ENGLISH))
    assert len(passes) >= 3
    assert {rows for (rows,) in passes} == {1}


def test_up_to_thirty_seconds_it_is_no_different(engine: WhisperEngine) -> None:
    assert not isinstance(engine.voice(noise(30), **ENGLISH), Pieces)


def test_its_language_is_detected_once(engine: WhisperEngine) -> None:
    long = engine.voice(LONG, temperature=0.4)
    encoded = 0

    def count(*args: object) -> None:
        nonlocal encoded
        encoded += 1

    counting = engine._model.encoder.ln_post.register_forward_hook(count)
    engine.listen([long])
    counting.remove()
    assert encoded == 1 + 3, "a window for the language, then each piece's first, all in one pass"
    hear(engine, long)
    assert long.answer is not None
    assert long.answer == engine.transcribe(LONG, language=long.answer.language, temperature=0.4)


def test_its_segments_are_told_in_its_order_though_the_last_piece_ends_first(engine: WhisperEngine) -> None:
    told: list[Segment] = []
    long = engine.voice(LONG, **ENGLISH, tell=told.append)
    last = long.rows[-1]
    engine.listen([long.rows[0]])  # which says something, and gives the others what they begin with
    while not last.done:
        engine.listen([last])
    some = len(told)
    assert all(segment.start_s < spans(LONG)[0][1] / 100 for segment in told), "the first piece alone"
    hear(engine, long)
    assert long.answer is not None
    assert tuple(told) == long.answer.segments
    assert len(told) > some
    assert [segment.start_s for segment in told] == sorted(segment.start_s for segment in told)
    assert {next(n for n, (_, end) in enumerate(spans(LONG)) if one.start_s < end / 100) for one in told} == {0, 1, 2}


@pytest.mark.parametrize("prompt", ["", "colour, sofa"])
def test_each_piece_is_prompted_by_the_caller_and_none_by_another(prompt: str, engine: WhisperEngine) -> None:
    tokenizer = get_tokenizer(multilingual=True)
    ten_s, cat = tokenizer.timestamp_begin + 500, tokenizer.encode(" a cat")
    said = Heard([tokenizer.timestamp_begin, *cat, ten_s, ten_s], -0.1, 0.1, 0.4)
    expected = (tokenizer.sot_prev, *tokenizer.encode(f" {prompt}")) if prompt else ()
    for piece in engine.voice(LONG, **ENGLISH, prompt=prompt).rows:
        piece.enter(1)
        assert isinstance(piece.asks, Attempt)
        assert piece.asks.initial[: piece.asks.begin] == expected
        piece.tell(said)  # the first 10 s: it asks for the rest
        assert isinstance(piece.asks, Attempt)
        assert piece.asks.initial[: piece.asks.begin] == (*(expected or (tokenizer.sot_prev,)), *said.tokens[:-1])


def test_a_prompt_is_no_part_of_the_text(engine: WhisperEngine) -> None:
    assert "colour, sofa" not in engine.transcribe(LONG, **ENGLISH, prompt="colour, sofa").text


def test_it_is_heard_with_others_as_if_it_were_alone(engine: WhisperEngine) -> None:
    alone = [engine.transcribe(audio, **ENGLISH) for audio in (LONG, SHORT, LONG[::-1])]
    long, short, other = (engine.voice(audio, **ENGLISH) for audio in (LONG, SHORT, LONG[::-1]))
    passes = hear(engine, long, short, other)
    assert passes[0] == [3, 1, 3]
    for heard, one in zip((long, short, other), alone, strict=True):
        assert heard.answer is not None
        assert heard.answer.text == one.text
        assert [(a.start_s, a.end_s) for a in heard.answer.segments] == [(b.start_s, b.end_s) for b in one.segments]


def test_its_share_of_a_pass_is_that_of_its_rows(engine: WhisperEngine) -> None:
    long, short = engine.voice(LONG, **ENGLISH), engine.voice(SHORT, **ENGLISH)
    pieces = long.rows
    engine.listen([long, short])
    assert long.shared_s / long.computed_s == pytest.approx(3 / 4)
    assert short.shared_s / short.computed_s == pytest.approx(1 / 4)
    hear(engine, long, short)
    assert long.computed_s < sum(piece.computed_s for piece in pieces), "passes count once"


def test_no_time_of_a_piece_is_after_its_end(engine: WhisperEngine) -> None:
    """Whisper may name any moment of 30 s, also where a piece is shorter."""
    first = get_tokenizer(multilingual=True).timestamp_begin
    long = engine.voice(LONG, **ENGLISH)
    for piece in long.rows:
        piece.enter(1)
        piece.tell(Heard([first, 1000, first + 1499], -0.1, 0.1, 0.4))
    assert long.answer is not None
    assert [(one.start_s, one.end_s) for one in long.answer.segments] == [(a / 100, b / 100) for a, b in spans(LONG)]


@pytest.mark.parametrize("at", [1, 2, 10])
def test_one_that_leaves_leaves_with_all_its_pieces(at: int, engine: WhisperEngine) -> None:
    polls, ended = 0, list[Recording]()

    def leave() -> None:
        nonlocal polls
        polls += 1
        if polls >= at:
            raise InterruptedError

    long, short = engine.voice(LONG, **ENGLISH, poll=leave, ended=ended.append), engine.voice(SHORT, **ENGLISH)
    pieces = long.rows
    engine.listen([long, short])
    assert isinstance(long.error, InterruptedError)
    assert (ended, long.rows) == ([long], [])
    assert polls == at, "it is asked no more"
    assert all(isinstance(piece.error, InterruptedError) for piece in pieces)
    hear(engine, short)
    assert short.answer == engine.transcribe(SHORT, **ENGLISH)


def test_one_that_cannot_be_told_ends_once_and_the_others_go_on(engine: WhisperEngine) -> None:
    ended: list[Recording] = []

    def cannot(segment: Segment) -> None:
        raise BrokenPipeError

    long, short = engine.voice(LONG, **ENGLISH, tell=cannot, ended=ended.append), engine.voice(SHORT, **ENGLISH)
    hear(engine, long, short)
    assert isinstance(long.error, BrokenPipeError)
    assert ended == [long]
    assert short.answer is not None


# What tiny.en hears.


@pytest.fixture(scope="module")
def tiny() -> WhisperEngine:
    return tiny_whisper.load(long_recordings="cut at silence")


def sentence(name: str) -> Audio:
    return decode((speech.HERE / f"{name}.ogg").read_bytes(), 60)


def normal(text: str) -> list[str]:
    return str(EnglishTextNormalizer()(text)).split()


SAID = {path.stem: normal(text) for path, text in speech.sentences().items()}
PAUSE = np.zeros(RATE_HZ // 2, np.int16)


def spoken(*names: str) -> tuple[Audio, list[str]]:
    """One after the other with pauses, and their words."""
    audio = np.concatenate([part for name in names for part in (sentence(name), PAUSE)])
    return audio, [word for name in names for word in SAID[name]]


def differ(said: list[str], heard: list[str]) -> float:
    from benchmarks.hearing import errors

    return errors(said, heard) / len(said)


@pytest.mark.slow
def test_a_long_recordings_text_is_what_was_said_in_order(tiny: WhisperEngine) -> None:
    names = [f"{name}-{voice}" for voice in speech.VOICES for name in ("village", "boat", "tree", "castle", "market", "oranges")]
    audio, said = spoken(*names)
    assert audio.size > 35 * RATE_HZ
    told: list[Segment] = []
    heard = tiny.transcribe(audio, tell=told.append)
    assert differ(said, normal(heard.text)) < 0.1
    assert tuple(told) == heard.segments
    times = [time for segment in told for time in (segment.start_s, segment.end_s)]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(audio.size / RATE_HZ, abs=2)
    assert normal(" ".join(segment.text for segment in told)) == normal(heard.text)


@pytest.mark.slow
def test_a_long_and_a_short_one_together_are_heard_as_alone(tiny: WhisperEngine) -> None:
    (long, _), short = spoken(*list(SAID)[:10]), sentence("cat-slt")
    alone = tiny.transcribe(long).text
    voices: tuple[Any, ...] = (tiny.voice(long), tiny.voice(short))
    passes = hear(tiny, *voices)
    assert passes[0] == [len(spans(long)), 1]
    assert [voice.answer.text for voice in voices] == [alone, "A black cat sleeping on a blue sofa."]


@pytest.mark.slow
@pytest.mark.parametrize("loud", [0, 30])
def test_a_piece_of_silence_says_nothing(loud: int, tiny: WhisperEngine) -> None:
    before, said_before = spoken("village-slt", "boat-rms", "tree-slt")
    after, said_after = spoken("market-slt", "oranges-rms", "penguins-slt")
    silence = np.random.default_rng(0).integers(-loud, loud + 1, 60 * RATE_HZ).astype(np.int16)
    heard = tiny.transcribe(np.concatenate([before, silence, after]))
    assert differ(said_before + said_after, normal(heard.text)) < 0.1
    silent_s = (before.size / RATE_HZ + 1, (before.size + silence.size) / RATE_HZ - 1)
    assert not [one for one in heard.segments if one.text and silent_s[0] < one.start_s and one.end_s < silent_s[1]]
