"""Many recordings in one batch of Whisper: each has the transcript that it has alone, and an error ends its own recording."""

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

from deployments.roles.speech_to_text import Segment, TranscribeRequest
from deployments.whisper.backends.kv_cache import EncodedAudio, PaddedCache, RaggedCache
from deployments.whisper.backends.torch import ENCODER_BATCH
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.logit_filters import LogitFilters, Sampler
from deployments.whisper.sequence import SequenceGroup, unfinished
from deployments.whisper.transcription import Window
from testing import random_whisper

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", params=[(1, RaggedCache), (ENCODER_BATCH, RaggedCache), (ENCODER_BATCH, PaddedCache)])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    """Windows one by one in the encoder, as in fp32 on a CPU; several in a batch; and rows of the decoder padded, as on a GPU."""
    folder = tmp_path_factory.mktemp("checkpoints")
    random_whisper.write(folder)
    engine = random_whisper.load(folder)
    engine._backend._encoder_batch, engine._backend._cache = request.param
    return engine


def noise(number: int, seconds: float = 1.0) -> NDArray[np.int16]:
    return np.random.default_rng(number).integers(-9000, 9000, int(seconds * 16_000)).astype(np.int16)


REQUESTS = [
    TranscribeRequest(noise(1), "en", temperature=0.6),
    TranscribeRequest(noise(2, 2.5), "de", "translate", temperature=0.4),
    TranscribeRequest(noise(3, 5), temperature=0.2),
    TranscribeRequest(noise(4), "ja", prompt="colour, sofa " * 9, temperature=0.6),
    TranscribeRequest(noise(1), "en", temperature=0.6),
]


def english(number: int, seconds: float = 1.0) -> TranscribeRequest:
    return TranscribeRequest(noise(number, seconds), "en")


def step(engine: WhisperEngine, *groups: SequenceGroup) -> None:
    engine.run_step([sequence for group in unfinished(groups) for sequence in group.sequences])


def finish(engine: WhisperEngine, *groups: SequenceGroup) -> None:
    while unfinished(groups):
        step(engine, *groups)


def test_each_recording_of_a_batch_has_the_transcript_that_it_has_alone(engine: WhisperEngine) -> None:
    """Requests that differ in length, language, task, prompt and temperature."""
    alone = [engine.transcribe(request) for request in REQUESTS]
    groups = [engine.prepare(request) for request in REQUESTS]
    finish(engine, *groups)
    for group, one in zip(groups, alone, strict=True):
        ours = group.transcript
        assert ours is not None
        assert (ours.text, ours.language) == (one.text, one.language)
        assert [segment.text for segment in ours.segments] == [segment.text for segment in one.segments]
        assert [s.avg_logprob for s in ours.segments] == pytest.approx([s.avg_logprob for s in one.segments], abs=1e-3)
    assert len({one.text for one in alone}) == len(REQUESTS) - 1, "the equal ones alone are equal"
    assert all(one.text for one in alone)


def test_a_recording_alone_has_the_transcript_of_openai_whisper(engine: WhisperEngine) -> None:
    for request in REQUESTS:
        torch.manual_seed(0)
        options = {"language": request.language or None, "task": request.task, "initial_prompt": request.prompt or None}
        stock = whisper.transcribe(
            engine._model, request.audio.astype(np.float32) / 32768, fp16=False, temperature=request.temperature, **options
        )
        ours = engine.transcribe(request)
        assert (ours.text, ours.language) == (stock["text"].strip(), stock["language"])


class Cancelled:
    """A client that disconnects before check number `at`."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.checks = 0

    def __call__(self) -> None:
        self.checks += 1
        if self.checks >= self.at:
            raise InterruptedError


def test_a_cancelled_recording_ends_at_its_next_token_and_the_others_go_on(engine: WhisperEngine) -> None:
    alone, client = engine.transcribe(REQUESTS[0]), Cancelled(at=9)
    cancelled, other = engine.prepare(REQUESTS[1], check_cancelled=client), engine.prepare(REQUESTS[0])
    finish(engine, cancelled, other)
    assert isinstance(cancelled.error, InterruptedError)
    assert client.checks == 9, "nothing ran for it afterwards"
    assert other.transcript is not None
    assert other.transcript.text == alone.text


@pytest.mark.parametrize("seconds", [1, 70])
@pytest.mark.parametrize("at", [2, 10, 10**9])
def test_the_memory_of_a_recording_is_freed_at_its_end(seconds: int, at: int, tmp_path: Path) -> None:
    """An error's traceback refers to the whole batch: a cancelled request would hold 18 MB of tiny.en until Python's collector runs."""
    random_whisper.write(tmp_path)
    engine = random_whisper.load(tmp_path, long_recordings="chunked")
    gc.collect()
    gc.disable()
    try:
        cancelled = engine.prepare(english(1, seconds), check_cancelled=Cancelled(at))
        finish(engine, cancelled, engine.prepare(english(2)))
        assert isinstance(cancelled.error, InterruptedError) == (at < 10**9)
        freed = weakref.ref(cancelled)
        del cancelled
        assert freed() is None
        assert [kept for kept in gc.get_objects() if type(kept) in (RaggedCache, EncodedAudio, Window)] == []
    finally:
        gc.enable()


def test_an_error_ends_its_own_recording_alone(engine: WhisperEngine) -> None:
    def fail(segment: Segment) -> None:
        raise BrokenPipeError

    failing, other = engine.prepare(REQUESTS[1], on_segment=fail), engine.prepare(REQUESTS[0])
    finish(engine, failing, other)
    assert isinstance(failing.error, BrokenPipeError)
    assert other.transcript is not None


class Encoder:
    """Encoder that counts the windows of each call of the encoder, at its beginning with their frames, and at its end."""

    def __init__(self, engine: WhisperEngine) -> None:
        self.begins: list[tuple[int, int]] = []
        self.ends: list[int] = []
        encoder = engine._model.encoder
        self._hooks = [
            encoder.conv1.register_forward_pre_hook(lambda _, inputs: self.begins.append((len(inputs[0]), inputs[0].shape[-1]))),
            encoder.ln_post.register_forward_pre_hook(lambda _, inputs: self.ends.append(len(inputs[0]))),
        ]

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


@pytest.mark.parametrize(("precision", "calls"), [("fp32", [1] * 6), ("bf16", [4, 1, 1])])
def test_windows_of_one_length_share_a_call_of_the_encoder(precision: str, calls: list[int], tmp_path: Path) -> None:
    random_whisper.write(tmp_path)
    engine = random_whisper.load(tmp_path, precision=precision, padding="adaptive")
    groups = [engine.prepare(english(number)) for number in range(5)] + [engine.prepare(english(5, 20))]
    with Encoder(engine) as encoder:
        step(engine, *groups)
    assert encoder.begins[: len(calls)] == [(rows, 1500) for rows in calls[:-1]] + [(1, 2100)]


def test_a_recording_cancelled_in_the_encoder_costs_its_next_block_nothing(engine: WhisperEngine) -> None:
    cancelled = engine.prepare(english(8), check_cancelled=Cancelled(at=2))
    others = [engine.prepare(english(number)) for number in range(3)]
    with Encoder(engine) as encoder:
        step(engine, others[0], cancelled, *others[1:])
    assert isinstance(cancelled.error, InterruptedError)
    assert sum(rows for rows, _ in encoder.begins) == 4
    assert sum(encoder.ends) == 3
    finish(engine, *others)
    texts = [group.transcript.text for group in others if group.transcript]
    assert texts == [engine.transcribe(english(number)).text for number in range(3)]


def test_an_error_in_the_encoder_ends_its_own_recording_alone(engine: WhisperEngine) -> None:
    groups = [engine.prepare(english(number)) for number in range(4)]

    def fail(_: Any, inputs: tuple[torch.Tensor]) -> None:
        (bad,) = groups[2].sequences or [None]
        if bad is not None and bad.request and any(torch.equal(one, bad.request.window.mel) for one in inputs[0]):
            raise ArithmeticError

    hook = engine._model.encoder.conv1.register_forward_pre_hook(fail)
    try:
        step(engine, *groups)
    finally:
        hook.remove()
    assert isinstance(groups[2].error, ArithmeticError)
    finish(engine, *groups)
    assert [group.transcript is not None for group in groups] == [True, True, False, True]


def test_each_recording_reports_the_size_of_its_batches(engine: WhisperEngine) -> None:
    done: list[SequenceGroup] = []
    groups = [engine.prepare(request, on_done=done.append) for request in REQUESTS[:3]]
    finish(engine, *groups)
    alone = engine.prepare(REQUESTS[0])
    finish(engine, alone)
    assert sorted(map(id, done)) == sorted(map(id, groups)), "each ended once"
    assert (alone.batch_size, max(group.batch_size for group in groups)) == (1, 3)
    assert all(group.shared_s < group.computed_s for group in groups)


@pytest.mark.parametrize(
    "before",
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
def test_the_filters_are_those_of_openai_whisper(before: list[Any], engine: WhisperEngine) -> None:
    task = DecodingTask(engine._model, DecodingOptions(language="en", fp16=False))
    tokenizer = task.tokenizer
    tokens = [
        tokenizer.timestamp_begin + round(one[0] / 0.02) if isinstance(one, tuple) else tokenizer.encode(f" {one}")[0]
        for one in before
    ]
    for seed, more in ((0, 0.0), (1, 0.0), (2, 6.0)):  # once with timestamps likelier than words
        theirs = torch.randn(1, tokenizer.timestamp_begin + 1501, generator=torch.Generator().manual_seed(seed))
        theirs[:, tokenizer.timestamp_begin :] += more
        ours = theirs.clone()
        for logit_filter in task.logit_filters:
            logit_filter.apply(theirs, torch.tensor([[*task.initial_tokens, *tokens]]))
        filters = LogitFilters(engine._model)
        samplers = [None, Sampler(0.7, torch.Generator().manual_seed(3))]
        found, logprobs = filters.pick(ours.repeat(2, 1), [filters.allowed(tokens)] * 2, samplers)
        assert found[0] == theirs.argmax()
        logits = theirs[0] / 0.7
        sampled = torch.multinomial(
            (logits - logits.logsumexp(dim=-1)).softmax(dim=-1), 1, generator=torch.Generator().manual_seed(3)
        )
        assert found[1] == sampled
        assert logprobs == pytest.approx(theirs[0].log_softmax(dim=-1)[found], rel=1e-5, abs=1e-6)
