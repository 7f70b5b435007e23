"""Both models in real Triton servers: a stream ends with the single result, and a disconnected caller frees the model."""

import asyncio
import io
import math
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import psutil
import pytest

from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.settings import DiffusionSettings
from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput
from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript
from deployments.roles.text_to_image import GenerateRequest, Image, Step
from deployments.time_left import TimeLeft
from deployments.triton.server import STOP_S
from deployments.whisper.deployment import Whisper
from deployments.whisper.settings import WhisperSettings
from graphs.audio.decode import decode
from testing import speech
from testing.random_pipelines import write

pytestmark = pytest.mark.triton
LARGE = GenerateRequest("a fox", steps=60, width=256, height=256, seed=3)
"""Some seconds of work."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "sd"
    write(folder)
    return folder


@pytest.fixture(scope="module")
def diffusion(folder: Path) -> Iterator[Diffusion]:
    deployment = Diffusion(DiffusionSettings(model=str(folder)))
    yield deployment
    asyncio.run(deployment.close())


@pytest.fixture(scope="module")
def one_at_a_time(folder: Path) -> Iterator[Diffusion]:
    deployment = Diffusion(DiffusionSettings(model=str(folder), max_batch=1))
    yield deployment
    asyncio.run(deployment.close())


@pytest.fixture(scope="module", params=["openai-whisper", "faster-whisper"])
def whisper(request: pytest.FixtureRequest) -> Iterator[Whisper]:
    whisper = Whisper(WhisperSettings(engine=request.param))
    yield whisper
    asyncio.run(whisper.close())


@pytest.fixture(scope="module")
def chunked() -> Iterator[Whisper]:
    whisper = Whisper(WhisperSettings(long_recordings="chunked"))
    yield whisper
    asyncio.run(whisper.close())


@pytest.fixture(autouse=True)
async def no_response_arrives_after_the_test(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Each test has an event loop of its own; Triton's binding ends the process when a response finds its loop closed."""
    names = {"diffusion", "one_at_a_time", "whisper", "chunked"} & set(request.fixturenames)
    yield
    for name in names:
        await idle(request.getfixturevalue(name))


async def idle(deployment: Diffusion | Whisper) -> None:
    if readers := deployment._triton._readers:
        await asyncio.wait(readers, timeout=60)
        assert not readers


def steps(deployment: Diffusion) -> tuple[int, int]:
    """Denoising steps so far: those that ran, and those that cancelling saved."""
    text = deployment._triton.metrics()
    ran, saved = (
        re.findall(rf"^sonograph_denoising_{name}(?:{{}})? ([\d.e+]+)$", text, re.M) for name in ("steps", "steps_saved")
    )
    return int(float(ran[0])), int(float(saved[0]))


async def begun(deployment: Diffusion, before: tuple[int, int]) -> None:
    """Return once a step has run since `before`."""
    for _ in range(6000):
        if steps(deployment)[0] > before[0]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no step has run within a minute")


async def settled(deployment: Diffusion) -> None:
    """Return once all earlier work has ended, also that without a caller; one step runs in the end."""
    await idle(deployment)
    await deployment.run(GenerateRequest("next", steps=1), TimeLeft(60))


async def test_a_streamed_image_is_the_same_image(diffusion: Diffusion) -> None:
    options = GenerateRequest("a fox", steps=6, seed=7)
    whole = await diffusion.run(options, TimeLeft(60))
    *progress, streamed = [item async for item in diffusion.stream(replace(options, previews=2), TimeLeft(60))]
    assert isinstance(streamed, Image)
    assert (streamed.encoded, streamed.compute_time.units) == (whole.encoded, 6)
    assert all(isinstance(one, Step) for one in progress)
    assert [(one.step, one.steps) for one in progress] == [(step, 6) for step in range(1, 7)]
    assert [one.step for one in progress if one.preview] == [2, 4]
    assert all(one.preview.encoded.startswith(b"\xff\xd8") for one in progress if one.preview)


@pytest.mark.parametrize(("previews", "shown"), [(0, 0), (1, 1), (3, 3), (5, 5), (50, 5)])
async def test_there_are_at_most_as_many_previews_as_the_request_names(diffusion: Diffusion, previews: int, shown: int) -> None:
    items = diffusion.stream(GenerateRequest("a fox", steps=6, previews=previews), TimeLeft(60))
    assert sum(isinstance(item, Step) and item.preview is not None for item in [item async for item in items]) == shown


async def test_a_closed_stream_runs_at_most_one_more_step(diffusion: Diffusion) -> None:
    await settled(diffusion)
    before = steps(diffusion)
    stream = diffusion.stream(LARGE, TimeLeft(60))
    async for item in stream:
        assert isinstance(item, Step)
        if item.step == 5:
            break
    await stream.aclose()
    await settled(diffusion)
    ran, saved = (after - then for after, then in zip(steps(diffusion), before, strict=True))
    assert 5 <= ran - 1 <= 5 + 2, "one was running, and one more at most began before Triton passed the cancellation on"
    assert ran - 1 + saved == 60


@pytest.mark.parametrize("by", ["the caller", "the deadline"])
async def test_the_work_for_a_caller_that_no_longer_waits_ends(diffusion: Diffusion, by: str) -> None:
    compute_time = (await diffusion.run(replace(LARGE, steps=6), TimeLeft(60))).compute_time
    await settled(diffusion)
    before = steps(diffusion)
    left_s = 60 if by == "the caller" else compute_time.fixed_s + 20 * compute_time.unit_s
    caller = asyncio.create_task(diffusion.run(LARGE, TimeLeft(left_s)))
    await begun(diffusion, before)
    caller.cancel() if by == "the caller" else None
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await caller
    await settled(diffusion)
    ran, saved = (after - then for after, then in zip(steps(diffusion), before, strict=True))
    assert ran - 1 + saved == 60
    assert saved > 0


async def test_a_request_cancelled_while_it_waits_never_starts(one_at_a_time: Diffusion) -> None:
    diffusion = one_at_a_time
    await settled(diffusion)
    before = steps(diffusion)
    running = asyncio.create_task(diffusion.run(GenerateRequest("a fox", steps=150, width=128, height=128), TimeLeft(60)))
    await begun(diffusion, before)
    waiting = asyncio.create_task(diffusion.run(LARGE, TimeLeft(60)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await running
    await settled(diffusion)
    ran, saved = (after - then for after, then in zip(steps(diffusion), before, strict=True))
    assert (ran - 1, saved) == (150, 60)


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_an_image_that_waits_for_a_place_has_its_wait_in_the_trace(one_at_a_time: Diffusion) -> None:
    await settled(one_at_a_time)
    before = steps(one_at_a_time)
    request = GenerateRequest("a fox", steps=40, width=128, height=128)
    running = asyncio.create_task(one_at_a_time.run_traced(request, TimeLeft(60), "1", TRACEPARENT))
    await begun(one_at_a_time, before)
    waiting = await one_at_a_time.run_traced(replace(request, steps=1), TimeLeft(60), "2", TRACEPARENT)
    first = {span.name: span for span in (await running).spans}
    second = {span.name: span for span in waiting.spans}
    last_step_ns = first["compute"].events[-1].at_ns
    assert second["queue"].started_ns < last_step_ns <= second["queue"].ended_ns == second["compute"].started_ns
    assert second["compute"].started_ns <= second["compute"].events[0].at_ns


async def test_a_recording_that_waits_for_a_step_has_its_wait_in_the_trace(whisper: Whisper) -> None:
    request = TranscribeRequest(decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60))
    calls = (whisper.run_traced(request, TimeLeft(60), str(number), TRACEPARENT) for number in range(12))
    traces = [{span.name: span for span in call.spans} for call in await asyncio.gather(*calls)]
    for found in traces:
        assert found["queue"].parent_id == found["compute"].parent_id == found["triton whisper"].id
        assert found["queue"].ended_ns == found["compute"].started_ns == found["window"].started_ns
    first_ended_ns = min(found["window"].ended_ns for found in traces)
    assert any(found["queue"].started_ns < first_ended_ns <= found["queue"].ended_ns for found in traces), "8 share a step"


async def test_images_share_steps_and_a_cancelled_one_disturbs_no_other(diffusion: Diffusion) -> None:
    await settled(diffusion)
    options = [GenerateRequest("a fox", steps=count, seed=count, width=128, height=128) for count in (20, 12, 30)]
    alone = [await diffusion.run(one, TimeLeft(60)) for one in options]
    assert [image.compute_time.batch_size for image in alone] == [1, 1, 1]
    before = steps(diffusion)
    cancelled = asyncio.create_task(diffusion.run(GenerateRequest("a fox", steps=150, width=128, height=128), TimeLeft(60)))
    tasks = [asyncio.create_task(diffusion.run(one, TimeLeft(60))) for one in options]
    await tasks[1]
    cancelled.cancel()
    shared = await asyncio.gather(*tasks)
    await settled(diffusion)
    assert all(1 < image.compute_time.batch_size <= 4 for image in shared)
    for one, other in zip(alone, shared, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 2
    ran, saved = (after - then for after, then in zip(steps(diffusion), before, strict=True))
    assert ran - 1 + saved == 150 + 20 + 12 + 30
    assert saved > 100


async def test_the_health_probe_is_answered_at_once_while_a_batch_runs(diffusion: Diffusion) -> None:
    running = [asyncio.create_task(diffusion.run(LARGE, TimeLeft(60))) for _ in range(3)]
    stream = diffusion.stream(LARGE, TimeLeft(60))
    async for _ in stream:
        break
    await diffusion._triton.infer(diffusion._triton._probe, TimeLeft(5))
    assert not any(one.done() for one in running)
    await stream.aclose()
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await settled(diffusion)


async def test_a_bad_request_of_a_batch_fails_alone(diffusion: Diffusion) -> None:
    good = [asyncio.create_task(diffusion.run(GenerateRequest("a fox", steps=8, seed=seed), TimeLeft(60))) for seed in (1, 2)]
    with pytest.raises(InvalidInput, match="multiples of 8"):
        await diffusion.run(GenerateRequest("a fox", width=60), TimeLeft(60))
    assert [image.compute_time.units for image in await asyncio.gather(*good)] == [8, 8]


async def test_a_deployment_that_closes_during_requests_ends_in_time_and_responds_to_all(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployment = Diffusion(DiffusionSettings(model=str(folder)))
    stub = max(deployment._triton._stubs, key=psutil.Process.create_time)
    tasks = [asyncio.create_task(deployment.run(replace(LARGE, steps=count), TimeLeft(60))) for count in (3, 150, 150)]
    await tasks[0]
    async with asyncio.timeout(2 * STOP_S):
        await deployment.close()
    _, *rest = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, Image | DeploymentError) for one in rest)
    assert not stub.is_running()
    assert "did not stop in order" not in caplog.text


def pixels(image: Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(image.encoded))).astype(int)


async def test_a_transcript_that_is_streamed_is_the_same_transcript(whisper: Whisper) -> None:
    request = TranscribeRequest(decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60))
    whole = await whisper.run(request, TimeLeft(60))
    *segments, streamed = [item async for item in whisper.stream(request, TimeLeft(60))]
    assert isinstance(streamed, Transcript)
    assert (streamed.text, streamed.segments) == (whole.text, whole.segments)
    assert tuple(segments) == streamed.segments
    assert all(isinstance(one, Segment) for one in segments)


async def test_a_cancelled_transcription_frees_whisper(whisper: Whisper) -> None:
    """Five minutes of speech take many seconds; the next answer would wait for them."""
    sentence = decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60)
    minutes = np.tile(sentence[: 16_000 * 3], 100)
    stream = whisper.stream(TranscribeRequest(minutes), TimeLeft(60))
    async for item in stream:
        assert isinstance(item, Segment)
        break
    await stream.aclose()
    caller = asyncio.create_task(whisper.run(TranscribeRequest(minutes), TimeLeft(60)))
    await asyncio.sleep(0.2)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await whisper.run(TranscribeRequest(sentence), TimeLeft(60))).text


async def executed(whisper: Whisper) -> tuple[int, int]:
    """Triton's count of rows, and of batches, which it counts after their answers."""
    await asyncio.sleep(0.2)
    text = whisper._triton.metrics()
    rows, batches = (re.findall(rf"^nv_inference_{name}{{.*}} (\d+)$", text, re.M)[0] for name in ("count", "exec_count"))
    return int(rows), int(batches)


SENTENCES = [
    TranscribeRequest(decode((speech.HERE / f"{name}-slt.ogg").read_bytes(), 60), "en")
    for name in ("cat", "tree", "village", "boat", "castle", "market")
]


async def test_recordings_that_arrive_together_share_a_batch_and_have_the_texts_that_they_have_alone(whisper: Whisper) -> None:
    alone = [await whisper.run(request, TimeLeft(60)) for request in SENTENCES]
    assert {one.compute_time.batch_size for one in alone} == {1}
    before = await executed(whisper)
    together = await asyncio.gather(*(whisper.run(request, TimeLeft(60)) for request in SENTENCES))
    assert [one.text for one in together] == [one.text for one in alone]
    rows, batches = (after - then for after, then in zip(await executed(whisper), before, strict=True))
    assert rows == len(SENTENCES)
    assert batches <= 3
    assert max(one.compute_time.batch_size for one in together) >= 3


async def test_an_invalid_and_a_cancelled_request_of_a_batch_affect_no_other(whisper: Whisper) -> None:
    first = asyncio.create_task(whisper.run(SENTENCES[0], TimeLeft(60)))
    await asyncio.sleep(0.1)
    requests = [
        replace(one, language=language)
        for one, language in zip(SENTENCES, ("en", "de", "en", "klingon", "en", "en"), strict=True)
    ]
    batch = [asyncio.create_task(whisper.run(request, TimeLeft(60))) for request in requests]
    await first
    await asyncio.sleep(0.05)  # it is in the encoder now
    batch[-1].cancel()
    kinds = [type(one) for one in await asyncio.gather(*batch, return_exceptions=True)]
    assert kinds == [Transcript, InvalidInput, Transcript, InvalidInput, Transcript, asyncio.CancelledError]


async def test_a_short_recording_does_not_wait_for_all_windows_of_a_long_one(whisper: Whisper) -> None:
    await a_short_one_is_done_before(whisper)


async def test_a_short_recording_does_not_wait_for_all_chunks_of_a_long_one(chunked: Whisper) -> None:
    await a_short_one_is_done_before(chunked)


async def a_short_one_is_done_before(whisper: Whisper) -> None:
    """Before the end of a long one, which was sent first."""
    paths = [*sorted(speech.HERE.glob("*.ogg")), *sorted((speech.HERE / "real").glob("*.ogg"))]
    long = np.concatenate([decode(path.read_bytes(), 60) for path in paths] * 3)
    assert long.size > whisper.settings.max_batch * 30 * 16_000
    waiting = asyncio.create_task(whisper.run(TranscribeRequest(long, "en"), TimeLeft(120)))
    await asyncio.sleep(0.2)
    short = await whisper.run(SENTENCES[0], TimeLeft(60))
    assert short.text
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await idle(whisper)


async def test_the_chunks_of_a_long_recording_are_one_transcript_in_its_order(chunked: Whisper) -> None:
    audio = np.concatenate([part for sentence in SENTENCES * 2 for part in (sentence.audio, np.zeros(8_000, np.int16))])
    before = await executed(chunked)
    *segments, transcript = [item async for item in chunked.stream(TranscribeRequest(audio, "en"), TimeLeft(120))]
    assert isinstance(transcript, Transcript)
    assert tuple(segments) == transcript.segments
    times = [time for segment in segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert 0.9 * audio.size / 16_000 < times[-1] < audio.size / 16_000 + 1
    assert [after - then for after, then in zip(await executed(chunked), before, strict=True)] == [1, 1]
    assert transcript.compute_time.units == math.ceil(audio.size / 30 / 16_000) > 1
    assert transcript.compute_time.batch_size == 1, "its chunks are one request"


async def test_a_bad_request_of_a_stream_says_why(whisper: Whisper) -> None:
    audio = decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60)
    with pytest.raises(InvalidInput, match="multilingual"):
        [item async for item in whisper.stream(TranscribeRequest(audio, "de"), TimeLeft(60))]
