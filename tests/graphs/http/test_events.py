"""A graph's server-sent events, over stages that answer at once."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ray.exceptions import ActorDiedError, TaskCancelledError

from deployments.errors import DeadlineExceeded, DeploymentError, NoSpeech
from deployments.roles.speech_to_text import Segment
from deployments.roles.text_to_image import Preview, Step
from deployments.time_left import TimeLeft
from graphs.audio.errors import AudioUndecodable
from graphs.core.context import RequestContext
from graphs.core.progress import Emit, OfBranch, Queued, Retry
from graphs.http.access_log import Entry
from graphs.http.admission import Admission, Reservation
from graphs.http.body_timeout import BodyTimeout
from graphs.http.dependencies import AdmittedRequest
from graphs.http.events import GraphEvents, event_types
from graphs.http.responses import negotiate
from graphs.http.settings import HttpSettings
from graphs.http.sse import EventStream
from graphs.voice_to_image import VoiceToImage
from graphs.voice_to_text import ListenParameters
from testing.fakes import FakeService, access_log, transcript

SEGMENT = Segment(0.0, 1.5, "une pomme\n\nevent: done 🍎", -0.25, 0.125)
WHISPER = (
    Queued("whisper", 3),
    Queued("whisper", 1),
    SEGMENT,
    Segment(1.5, 1.5, "", -0.25, 0.125),
    Retry("whisper"),
    SEGMENT,
)
DIFFUSION = (Step(1, 2, 40.4, Preview(b"\xff\xd8jpeg", 32, 16)), Step(2, 2, 0.0))


@pytest.fixture
async def service() -> FakeService:
    service = FakeService(HttpSettings(deadline_s=50))
    service.whisper.progress, service.diffusion.progress = WHISPER, DIFFUSION
    return service


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as client:
        yield client


async def post(client: httpx.AsyncClient, path: str = "/graph", **more: Any) -> httpx.Response:
    return await client.post(path, files={"file": b"sound"}, headers={"accept": "text/event-stream"}, **more)


def read(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the events' data, and check that each block is an event, an id and one line of data."""
    found = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        event, id, data = block.split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert event == f"event: {content['type']}"
        assert id == f"id: {content['sequence']}"
        found.append(content)
    return found


async def test_a_stream_has_every_event_in_order_and_ends_with_the_picture_and_done(
    service: FakeService, client: httpx.AsyncClient
) -> None:
    answer = await post(client, data={"timeout_ms": "30000", "output_format": "webp"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read(answer)
    assert [one["type"] for one in events] == [
        "accepted", "queued", "queued", "transcript.delta", "retry", "transcript.delta", "transcript",
        "image.step", "image.preview", "image.step", "image", "done",
    ]  # fmt: skip
    documented = event_types(service.graphs()[0], (*service.whisper.spec.events, *service.diffusion.spec.events))
    assert {one["type"] for one in events} == set(documented) - {"error"}
    assert len(set(documented)) == len(documented)
    assert [one["sequence"] for one in events] == list(range(len(events)))
    assert len({one["request_id"] for one in events}) == 1
    by_type = {one["type"]: {k: v for k, v in one.items() if k not in ("type", "request_id", "sequence")} for one in events}
    assert by_type["accepted"] == {"deadline_ms": 30000}
    assert by_type["queued"] == {"stage": "whisper", "position": 1}
    assert by_type["transcript.delta"] == {"text": SEGMENT.text, "start": 0.0, "end": 1.5}
    assert by_type["retry"] == {"stage": "whisper"}
    assert by_type["transcript"]["text"] == "a red apple"
    assert by_type["image.preview"]["base64"] == base64.b64encode(b"\xff\xd8jpeg").decode()
    steps = [one for one in events if one["type"] == "image.step"]
    assert [(one["step"], one["steps"], one["eta_ms"]) for one in steps] == [(1, 2, 40), (2, 2, 0)]
    assert set(by_type["done"]) == {"timings_ms"}
    assert by_type["image"]["image"]["media_type"] == "image/webp"


async def test_the_streamed_image_is_that_of_the_json_answer(client: httpx.AsyncClient) -> None:
    (image,) = (one for one in read(await post(client, data={"seed": "7"})) if one["type"] == "image")
    accept = {"accept": "application/json"}
    plain = (await client.post("/graph", files={"file": b"sound"}, data={"seed": "7"}, headers=accept)).json()
    assert {key: image[key] for key in ("image", "prompt", "prompt_truncated", "seed", "models")} == {
        key: plain[key] for key in ("image", "prompt", "prompt_truncated", "seed", "models")
    }


async def test_a_request_refused_before_work_starts_gets_no_stream(service: FakeService, client: httpx.AsyncClient) -> None:
    service.undecodable = AudioUndecodable("not a recording")
    for answer in (await post(client), await post(client, data={"steps": "0"}), await post(client, "/listen")):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/graph", "/listen"])
async def test_a_later_error_is_the_last_event(service: FakeService, client: httpx.AsyncClient, path: str) -> None:
    service.whisper.result = NoSpeech("the recording is silent")
    *_, last = read(await post(client, path))
    assert last["type"] == "error"
    assert (last["problem"]["status"], last["problem"]["code"], last["problem"]["detail"]) == (
        422,
        "no_speech",
        "the recording is silent",
    )
    assert last["problem"]["request_id"] == last["request_id"]


async def test_a_defect_is_an_event_without_its_reason(
    service: FakeService, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    service.diffusion.result = DeploymentError("the password is 1234")
    answer = await post(client)
    assert read(answer)[-1]["problem"]["code"] == "internal"
    assert "1234" not in answer.text
    assert "1234" in caplog.text


def encoder(service: FakeService) -> tuple[GraphEvents, Entry]:
    """Return the encoder of one transcription request, and its entry in the access log."""
    context = RequestContext("abc", TimeLeft(50))
    admission = Admission(1, 1, 1, lambda: BodyTimeout(10, 500))
    reservation = Reservation(admission, None, BodyTimeout(10, 500), lambda: 1.0)
    admitted = AdmittedRequest(context, Entry(context, "/listen"), reservation, 50.0, [])
    return GraphEvents(service.graphs()[1], ListenParameters(), admitted), admitted.entry


async def test_a_silent_stream_sends_comments(service: FakeService) -> None:
    events, entry = encoder(service)

    async def slowly(emit: Emit) -> Any:
        await asyncio.sleep(0.5)
        return transcript()

    sent: list[str] = []
    stream = EventStream(slowly, events, entry, keep_alive_s=0.01)
    async for part in stream.body_iterator:
        sent.append(str(part))
    assert sent.count(": keep-alive\n\n") >= 3
    assert [one.split("\n")[0] for one in sent if one != ": keep-alive\n\n"] == ["event: accepted", "event: done"]


def test_progress_of_a_branch_carries_the_branchs_name(service: FakeService) -> None:
    events, _ = encoder(service)
    (sent,) = read(httpx.Response(200, text="".join(events.progress(OfBranch("left", Queued("diffusion", 2))))))
    assert sent == {"type": "queued", "request_id": "abc", "sequence": 0, "stage": "diffusion", "position": 2, "branch": "left"}


async def test_a_transcription_has_its_events_and_ends_with_done(service: FakeService, client: httpx.AsyncClient) -> None:
    events = read(await post(client, "/listen", data={"timeout_ms": "30000"}))
    assert [one["type"] for one in events] == [
        "accepted", "queued", "queued", "transcript.delta", "retry", "transcript.delta", "transcript", "done",
    ]  # fmt: skip
    assert {one["type"] for one in events} == set(event_types(service.graphs()[1], service.whisper.spec.events)) - {"error"}
    assert [one["sequence"] for one in events] == list(range(len(events)))
    assert events[0]["deadline_ms"] == 30000
    plain = (await client.post("/listen", files={"file": b"sound"})).json()
    (answer,) = (one for one in events if one["type"] == "transcript")
    assert (answer["text"], answer["language"], answer["segments"]) == (plain["transcript"], "en", plain["segments"])
    assert events[-1]["timings_ms"] == {**plain["timings_ms"], "decode": events[-1]["timings_ms"]["decode"]}


async def test_a_deadline_that_passes_during_a_stage_is_an_event_or_a_504(
    service: FakeService, client: httpx.AsyncClient
) -> None:
    error = DeadlineExceeded("the request's time ran out during whisper")
    error.stage = "whisper"
    service.whisper.result = error
    *_, last = read(await post(client, "/listen"))
    assert (last["type"], last["problem"]["status"], last["problem"]["stage"]) == ("error", 504, "whisper")
    plain = await client.post("/listen", files={"file": b"sound"})
    assert (plain.status_code, plain.json()["code"], plain.json()["stage"]) == (504, "deadline_exceeded", "whisper")


async def test_a_client_that_disconnects_cancels_the_work_and_frees_its_reservation(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    service = FakeService(HttpSettings(max_concurrent_requests=1))
    service.diffusion.endless = True
    async with service.client() as client:
        disconnecting = asyncio.create_task(post(client))
        await service.diffusion.started.wait()
        full = await post(client)
        assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "overloaded", "1")
        disconnecting.cancel()  # as Serve cancels the app when its client has disconnected
        with pytest.raises(asyncio.CancelledError):
            await disconnecting
        await asyncio.wait_for(service.diffusion.cancelled.wait(), 5)
        service.diffusion.endless = False
        assert (await post(client)).status_code == 200
    outcomes = [(line["status"], line["cancelled"]) for line in access_log(caplog.records)]
    assert outcomes[-1] == (200, False)
    assert (499, True) in outcomes


@pytest.mark.parametrize(
    "end", [{"type": "http.disconnect"}, TaskCancelledError(), ActorDiedError()], ids=lambda end: str(type(end))
)
async def test_the_log_marks_a_disconnected_client_however_serve_reports_it(
    end: dict[str, str] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Serve's `receive` raises Ray's errors if its proxy has cancelled the request or has died."""
    caplog.set_level(logging.INFO, "ray.serve")
    service = FakeService()
    service.whisper.endless = True
    app = service.app()
    messages: list[Any] = [{"type": "http.request", "body": b"sound", "more_body": False}]
    sent = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await sent.wait()
        if isinstance(end, Exception):
            raise end
        return end

    async def send(message: Any) -> None:
        if message.get("body"):
            sent.set()

    headers = [(b"accept", b"text/event-stream"), (b"content-type", b"audio/wav")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/graph", "query_string": b"", "headers": headers}
    await asyncio.wait_for(app(scope, receive, send), 10)
    assert service.whisper.cancelled.is_set()
    assert [(line["status"], line["cancelled"]) for line in access_log(caplog.records)] == [(499, True)]


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, */*;q=0.1", "TEXT/EVENT-STREAM"])
def test_the_answer_is_a_stream_if_accept_requests_it(accept: str) -> None:
    assert negotiate(accept, None, VoiceToImage.formats) == ("text/event-stream", "png")
    assert negotiate(accept, "webp", VoiceToImage.formats) == ("text/event-stream", "webp")


@pytest.mark.parametrize("accept", [None, "*/*", "text/html, */*", "image/*, text/event-stream;q=0.1"])
def test_other_clients_get_an_image(accept: str | None) -> None:
    assert negotiate(accept, None, VoiceToImage.formats)[0] == "image/png"
