"""Whisper's deployment over a scripted Triton: tensors in, a typed transcript out, and the refusal of recordings without speech."""

from typing import Any

import numpy as np
import pytest

from deployments.compute_time import ComputeTime
from deployments.errors import InvalidInput, ModelUnavailable, NoSpeech
from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors
from deployments.whisper.deployment import Whisper
from deployments.whisper.settings import WhisperSettings
from testing.fakes import FakeTriton, texts

AUDIO = np.arange(16_000, dtype=np.int16)
REQUEST = TranscribeRequest(AUDIO)
CLEAR = (-0.25, 0.125)
"""avg_logprob and no_speech_prob of a segment that is surely speech."""
SILENT = (-1.5, 0.75)


def outputs(*segments: tuple[str, tuple[float, float]], text: str | None = None, language: str = "en") -> Tensors:
    whole = " ".join(words for words, _ in segments) if text is None else text
    stats = [(number, number + 0.5, *probabilities) for number, (_, probabilities) in enumerate(segments)]
    return {
        "TEXT": texts(whole),
        "LANGUAGE": texts(language),
        "SEGMENT_TEXT": texts(*(words for words, _ in segments)),
        "SEGMENT_STATS": np.array(stats, dtype=np.float32).reshape(-1, 4),
        "COMPUTE_S": np.array([1.5], dtype=np.float32),
        "BATCH_SIZE": np.array([3], dtype=np.int32),
    }


def deployment(triton: FakeTriton, **settings: float) -> Whisper:
    return Whisper(WhisperSettings.model_validate(settings), triton)


async def transcribe(triton: FakeTriton, **settings: float) -> Transcript:
    return await deployment(triton, **settings).run(REQUEST, TimeLeft(10))


async def test_outputs_become_a_transcript() -> None:
    transcript = await transcribe(FakeTriton(outputs(("Une pomme", CLEAR), ("très rouge. 🍎", CLEAR), language="fr")))
    assert transcript.text == "Une pomme très rouge. 🍎"
    assert transcript.language == "fr"
    assert transcript.segments == (Segment(0.0, 0.5, "Une pomme", *CLEAR), Segment(1.0, 1.5, "très rouge. 🍎", *CLEAR))
    assert transcript.model == "tiny.en"


async def test_a_stream_is_each_segment_and_then_the_transcript() -> None:
    whole = outputs(("one", CLEAR), ("two", CLEAR))
    alone = [
        {"SEGMENT_TEXT": whole["SEGMENT_TEXT"][i : i + 1], "SEGMENT_STATS": whole["SEGMENT_STATS"][i : i + 1]} for i in (0, 1)
    ]
    triton = FakeTriton(*alone, whole)
    items: list[Any] = [item async for item in deployment(triton).stream(REQUEST, TimeLeft(10))]
    assert items == [*items[-1].segments, await transcribe(FakeTriton(whole))]
    assert [one.text for one in items] == ["one", "two", "one two"]
    assert triton.inputs[0]["PROGRESS"].tolist() == [1]


async def test_a_stream_without_words_ends_with_no_speech() -> None:
    with pytest.raises(NoSpeech):
        [item async for item in deployment(FakeTriton(outputs())).stream(REQUEST, TimeLeft(10))]


@pytest.mark.parametrize(("seconds", "units"), [(0.5, 1), (30, 1), (30.1, 2), (60, 2), (61, 3)])
async def test_the_compute_time_is_for_each_window_of_thirty_seconds(seconds: float, units: int) -> None:
    request = TranscribeRequest(np.zeros(int(seconds * 16_000), np.int16))
    transcript = await deployment(FakeTriton(outputs(("a cat", CLEAR)))).run(request, TimeLeft(10))
    assert transcript.compute_time == ComputeTime(0.0, 1.5 / units, units, batch_size=3)


async def test_times_are_rounded_to_milliseconds() -> None:
    answer = outputs(("one", CLEAR))
    answer["SEGMENT_STATS"][0, :2] = (0.1, 2.3)
    (segment,) = (await transcribe(FakeTriton(answer))).segments
    assert (segment.start, segment.end) == (0.1, 2.3)


async def test_the_request_and_its_id_reach_the_model() -> None:
    triton, time_left = FakeTriton(outputs(("ein Apfel", CLEAR))), TimeLeft(10)
    await deployment(triton).run(TranscribeRequest(AUDIO, "de", "translate", "Äpfel", 0.5), time_left, "id-1")
    (inputs,) = triton.inputs
    assert set(inputs) == {"AUDIO", "LANGUAGE", "TASK", "PROMPT", "TEMPERATURE", "PROGRESS"}
    assert (inputs["PROMPT"].tolist(), inputs["TEMPERATURE"].tolist()) == (["Äpfel".encode()], [0.5])
    assert inputs["PROGRESS"].tolist() == [0]
    assert inputs["AUDIO"] is AUDIO
    assert (inputs["LANGUAGE"].tolist(), inputs["TASK"].tolist()) == ([b"de"], [b"translate"])
    assert inputs["LANGUAGE"].dtype == np.object_
    assert triton.request_ids == ["id-1"]
    assert triton.times_left == [time_left]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(outputs(), id="nothing"),
        pytest.param(outputs(("", CLEAR)), id="an empty segment"),
        pytest.param(outputs((" ... ♪ !", CLEAR)), id="no letter and no digit"),
        pytest.param(outputs(("you", SILENT)), id="Whisper's usual text for silence"),
        pytest.param(outputs(("you", SILENT), ("Thank you.", SILENT)), id="twice"),
    ],
)
async def test_no_words_and_doubtful_words_are_no_speech(answer: Tensors) -> None:
    with pytest.raises(NoSpeech, match="Whisper found no words"):
        await transcribe(FakeTriton(answer))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(outputs(("a cat", CLEAR)), id="clear"),
        pytest.param(outputs(("a cat", (-0.5, 0.99))), id="no speech but confident"),
        pytest.param(outputs(("a cat", (-3.0, 0.1))), id="mumbled but speech"),
        pytest.param(outputs(("you", SILENT), ("a cat", CLEAR)), id="clear after silence"),
        pytest.param(outputs(("7", CLEAR)), id="a digit"),
        pytest.param(outputs(("猫", CLEAR)), id="a letter of another script"),
        pytest.param(outputs(("a cat", (-1.0, 0.6))), id="at both thresholds"),
    ],
)
async def test_words_with_one_sure_segment_are_speech(answer: Tensors) -> None:
    assert (await transcribe(FakeTriton(answer))).text


async def test_the_thresholds_are_the_settings() -> None:
    answer = outputs(("a cat", (-0.5, 0.5)))
    assert (await transcribe(FakeTriton(answer))).text
    with pytest.raises(NoSpeech):
        await transcribe(FakeTriton(answer), no_speech_threshold=0.4, logprob_threshold=-0.4)


@pytest.mark.parametrize("error", [InvalidInput("no such language"), ModelUnavailable("starting")])
async def test_an_error_of_triton_reaches_the_caller_and_the_next_request_is_served(error: Exception) -> None:
    whisper = deployment(FakeTriton(error, outputs(("a cat", CLEAR))))
    with pytest.raises(type(error)) as raised:
        await whisper.run(REQUEST, TimeLeft(10))
    assert raised.value is error
    assert (await whisper.run(REQUEST, TimeLeft(10))).text == "a cat"


async def test_health_is_tritons_and_closing_closes_it() -> None:
    triton = FakeTriton(outputs(("a cat", CLEAR)))
    await deployment(triton).check_health()
    with pytest.raises(ModelUnavailable):
        await deployment(FakeTriton(ModelUnavailable("stalled"))).check_health()
    whisper = deployment(triton)
    await whisper.__del__()
    assert triton.closed == 1
