"""Many recordings in one pass of Whisper: each is heard as if it were alone, and what becomes of one is its own."""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray
from whisper.decoding import DecodingOptions, DecodingTask

from deployments.whisper.backends.torch_model import Row, Sound
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.logit_filters import Rules
from deployments.whisper.sequence import ENCODED_TOGETHER, Recording
from deployments.whisper.transcription import Segment, Window
from testing import random_whisper


@pytest.fixture(scope="module", params=[1, ENCODED_TOGETHER])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    """Windows one by one in the encoder, as in fp32 on a CPU, and some together."""
    folder = tmp_path_factory.mktemp("checkpoints")
    random_whisper.write(folder)
    engine = WhisperEngine(random_whisper.NAME, folder)
    engine._listener._encoded_together = request.param
    return engine


def noise(number: int, seconds: float = 1.0) -> NDArray[np.int16]:
    return np.random.default_rng(number).integers(-9000, 9000, int(seconds * 16_000)).astype(np.int16)


REQUESTS: list[tuple[NDArray[np.int16], dict[str, Any]]] = [
    (noise(1), {"language": "en", "temperature": 0.6}),
    (noise(2, 2.5), {"language": "de", "task": "translate", "temperature": 0.4}),
    (noise(3, 5), {"temperature": 0.2}),
    (noise(4), {"language": "ja", "prompt": "colour, sofa " * 9, "temperature": 0.6}),
    (noise(1), {"language": "en", "temperature": 0.6}),
]


def listen(engine: WhisperEngine, *voices: Recording) -> None:
    while still := [voice for voice in voices if not voice.done]:
        engine.listen(still)


def test_each_is_heard_as_if_it_were_alone(engine: WhisperEngine) -> None:
    """They differ in length, language, task, prompt and temperature."""
    alone = [engine.transcribe(audio, **options) for audio, options in REQUESTS]
    voices = [engine.voice(audio, **options) for audio, options in REQUESTS]
    listen(engine, *voices)
    for voice, one in zip(voices, alone, strict=True):
        assert voice.answer is not None
        assert (voice.answer.text, voice.answer.language) == (one.text, one.language)
        assert [segment.text for segment in voice.answer.segments] == [segment.text for segment in one.segments]
        assert [s.avg_logprob for s in voice.answer.segments] == pytest.approx([s.avg_logprob for s in one.segments], abs=1e-3)
    assert len({one.text for one in alone}) == len(REQUESTS) - 1, "the equal ones alone are equal"
    assert all(one.text for one in alone)


def test_alone_it_is_heard_as_openai_whisper_hears_it(engine: WhisperEngine) -> None:
    for audio, options in REQUESTS:
        torch.manual_seed(0)
        asked = {"initial_prompt" if name == "prompt" else name: value for name, value in options.items()}
        stock = whisper.transcribe(engine._model, audio.astype(np.float32) / 32768, fp16=False, **asked)
        heard = engine.transcribe(audio, **options)
        assert (heard.text, heard.language) == (stock["text"].strip(), stock["language"])


def test_one_that_leaves_goes_at_its_next_step_and_the_others_go_on(engine: WhisperEngine) -> None:
    polls = 0

    def leave() -> None:
        nonlocal polls
        polls += 1
        if polls == 9:
            raise InterruptedError

    alone = engine.transcribe(*REQUESTS[0][:1], **REQUESTS[0][1])
    leaving = engine.voice(REQUESTS[1][0], **REQUESTS[1][1], poll=leave)
    staying = engine.voice(REQUESTS[0][0], **REQUESTS[0][1])
    listen(engine, leaving, staying)
    assert isinstance(leaving.error, InterruptedError)
    assert polls == 9, "it is asked no more"
    assert staying.answer is not None
    assert staying.answer.text == alone.text


@pytest.mark.parametrize("seconds", [1, 70])
@pytest.mark.parametrize("polls", [1, 9, 10**9])
def test_what_it_was_heard_with_is_let_go_with_it(seconds: int, polls: int, tmp_path: Path) -> None:
    """An error's traceback holds the whole pass: a client that leaves would cost 18 MB of tiny.en until Python's collector comes by."""
    random_whisper.write(tmp_path)
    engine = WhisperEngine(random_whisper.NAME, tmp_path, long_recordings="cut at silence")
    left = iter(range(polls))

    def leave() -> None:
        if next(left, None) is None:
            raise InterruptedError

    gc.collect()
    gc.disable()
    try:
        leaving = engine.voice(noise(1, seconds), "en", poll=leave)
        listen(engine, leaving, engine.voice(noise(2), "en"))
        assert isinstance(leaving.error, InterruptedError) == (polls < 10**9)
        gone = weakref.ref(leaving)
        del leaving
        assert gone() is None
        assert [held for held in gc.get_objects() if type(held) in (Row, Sound, Window)] == []
    finally:
        gc.enable()


def test_one_that_fails_fails_alone(engine: WhisperEngine) -> None:
    def cannot_be_told(segment: Segment) -> None:
        raise BrokenPipeError

    failing = engine.voice(REQUESTS[1][0], **REQUESTS[1][1], tell=cannot_be_told)
    staying = engine.voice(REQUESTS[0][0], **REQUESTS[0][1])
    listen(engine, failing, staying)
    assert isinstance(failing.error, BrokenPipeError)
    assert staying.answer is not None


class Encoder:
    """How many windows, and of how many frames, each call of the encoder is given at its beginning, and still has at its end."""

    def __init__(self, engine: WhisperEngine) -> None:
        self.begins: list[tuple[int, int]] = []
        self.ends: list[int] = []
        encoder = engine._model.encoder
        self._hooks = [
            encoder.conv1.register_forward_pre_hook(lambda _, given: self.begins.append((len(given[0]), given[0].shape[-1]))),
            encoder.ln_post.register_forward_pre_hook(lambda _, given: self.ends.append(len(given[0]))),
        ]

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


@pytest.mark.parametrize(("precision", "calls"), [("fp32", [1] * 6), ("bf16", [4, 1, 1])])
def test_windows_of_one_length_are_encoded_together(precision: str, calls: list[int], tmp_path: Path) -> None:
    random_whisper.write(tmp_path)
    engine = WhisperEngine(random_whisper.NAME, tmp_path, precision=precision, padding="in doubt")
    voices = [engine.voice(noise(number), "en") for number in range(5)] + [engine.voice(noise(5, 20), "en")]
    with Encoder(engine) as encoder:
        engine.listen(voices)
    assert encoder.begins[: len(calls)] == [(rows, 1500) for rows in calls[:-1]] + [(1, 2100)]


def test_who_leaves_in_the_encoder_costs_its_next_block_nothing(engine: WhisperEngine) -> None:
    polls = iter(range(1))

    def leave() -> None:
        if next(polls, None) is None:
            raise InterruptedError

    leaving = engine.voice(noise(8), "en", poll=leave)
    staying = [engine.voice(noise(number), "en") for number in range(3)]
    with Encoder(engine) as encoder:
        engine.listen([staying[0], leaving, *staying[1:]])
    assert isinstance(leaving.error, InterruptedError)
    assert sum(rows for rows, _ in encoder.begins) == 4
    assert sum(encoder.ends) == 3
    listen(engine, *staying)
    assert [voice.answer.text for voice in staying if voice.answer] == [
        engine.transcribe(noise(number), "en").text for number in range(3)
    ]


def test_what_fails_in_the_encoder_fails_alone(engine: WhisperEngine) -> None:
    voices = [engine.voice(noise(number), "en") for number in range(4)]

    def fail(_: Any, given: tuple[torch.Tensor]) -> None:
        if any(torch.equal(one, bad.asks.window.mel) for bad in [voices[2]] if bad.asks for one in given[0]):
            raise ArithmeticError

    hook = engine._model.encoder.conv1.register_forward_pre_hook(fail)
    try:
        engine.listen(voices)
    finally:
        hook.remove()
    assert isinstance(voices[2].error, ArithmeticError)
    listen(engine, *voices)
    assert [voice.answer is not None for voice in voices] == [True, True, False, True]


def test_each_says_how_many_it_was_heard_with(engine: WhisperEngine) -> None:
    ended: list[Recording] = []
    voices = [engine.voice(audio, **options, ended=ended.append) for audio, options in REQUESTS[:3]]
    engine.listen(voices)
    listen(engine, *voices)
    alone = engine.voice(REQUESTS[0][0], **REQUESTS[0][1])
    listen(engine, alone)
    assert sorted(map(id, ended)) == sorted(map(id, voices)), "each ended once"
    assert (alone.batch_size, max(voice.batch_size for voice in voices)) == (1, 3)
    assert all(voice.shared_s < voice.computed_s for voice in voices)


@pytest.mark.parametrize(
    "said",
    [
        [],
        [(0.0,)],
        [(0.5,), "a", "cat"],
        [(0.5,), "a", "cat", (1.5,)],
        [(0.5,), "a", "cat", (1.5,), (1.5,)],
        [(0.5,), "a", (1.5,), (1.5,), "dog", (2.0,)],
        [(29.0,), "a", "cat", (30.0,)],
    ],
)
def test_what_may_follow_is_what_openai_whisper_lets_follow(said: list[Any], engine: WhisperEngine) -> None:
    task = DecodingTask(engine._model, DecodingOptions(language="en", fp16=False))
    tokenizer = task.tokenizer
    tokens = [
        tokenizer.timestamp_begin + round(one[0] / 0.02) if isinstance(one, tuple) else tokenizer.encode(f" {one}")[0]
        for one in said
    ]
    for seed, more in ((0, 0.0), (1, 0.0), (2, 6.0)):  # once with time that is likely to pass
        theirs = torch.randn(1, tokenizer.timestamp_begin + 1501, generator=torch.Generator().manual_seed(seed))
        theirs[:, tokenizer.timestamp_begin :] += more
        ours = theirs.clone()
        for rule in task.logit_filters:
            rule.apply(theirs, torch.tensor([[*task.initial_tokens, *tokens]]))
        Rules(engine._model).apply(ours, [tokens])
        assert torch.equal(ours, theirs)
