"""A drawing as server-sent events, over a graph that draws at once."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ray.exceptions import ActorDiedError, TaskCancelledError

from deployments.diffusion import Preview, Step
from deployments.errors import DeploymentError, NoSpeech
from deployments.whisper import Segment
from graphs.core.readiness import Rooms
from graphs.http import sse
from graphs.http.app import create_app
from graphs.http.errors import AudioUndecodable
from graphs.http.events import TYPES, Queued, Retry
from graphs.http.responses import negotiate
from graphs.http.settings import HttpSettings
from testing.fakes import SERVED, FakeGraph, drawing, room_status, serve_status

SEGMENT = Segment(0.0, 1.5, "une pomme\n\nevent: done 🍎", -0.25, 0.125)
EVERYTHING = (
    Queued("whisper", 3),
    Queued("whisper", 1),
    SEGMENT,
    Segment(1.5, 1.5, "", -0.25, 0.125),
    Retry("whisper"),
    SEGMENT,
    drawing().transcript,
    Step(1, 2, 40.4, Preview(b"\xff\xd8jpeg", 32, 16)),
    Step(2, 2, 0.0),
)


class EndlessGraph(FakeGraph):
    """Draws until it is cancelled, unless `endless` is taken from it."""

    def __init__(self) -> None:
        super().__init__()
        self.endless = True
        self.began, self.stopped = asyncio.Event(), asyncio.Event()

    async def draw(self, *arguments: Any) -> Any:
        if not self.endless:
            return await super().draw(*arguments)
        self.began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self.stopped.set()


@pytest.fixture
async def graph() -> FakeGraph:
    return FakeGraph(events=EVERYTHING)


@pytest.fixture
async def client(graph: FakeGraph) -> AsyncIterator[httpx.AsyncClient]:
    rooms = Rooms("sonograph", ("whisper",), lambda: serve_status(whisper=room_status()))
    app = create_app(graph, rooms, HttpSettings(deadline_s=50), SERVED)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def post(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await client.post("/graph", files={"file": b"sound"}, headers={"accept": "text/event-stream"}, **more)


def read(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events' data; each block has to be an event, an id and one line of data."""
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


async def test_a_stream_tells_everything_in_order_and_ends_with_the_picture_and_done(client: httpx.AsyncClient) -> None:
    answer = await post(client, data={"timeout_ms": "30000", "output_format": "webp"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    said = read(answer)
    assert [one["type"] for one in said] == [
        "accepted", "queued", "queued", "transcript.delta", "retry", "transcript.delta", "transcript",
        "image.step", "image.preview", "image.step", "image", "done",
    ]  # fmt: skip
    assert {one["type"] for one in said} == set(TYPES) - {"error"}
    assert [one["sequence"] for one in said] == list(range(len(said)))
    assert len({one["request_id"] for one in said}) == 1
    by_type = {one["type"]: {k: v for k, v in one.items() if k not in ("type", "request_id", "sequence")} for one in said}
    assert by_type["accepted"] == {"deadline_ms": 30000}
    assert by_type["queued"] == {"stage": "whisper", "position": 1}
    assert by_type["transcript.delta"] == {"text": SEGMENT.text, "start": 0.0, "end": 1.5}
    assert by_type["retry"] == {"stage": "whisper"}
    assert by_type["transcript"]["text"] == "a red apple"
    assert by_type["image.preview"]["base64"] == base64.b64encode(b"\xff\xd8jpeg").decode()
    steps = [one for one in said if one["type"] == "image.step"]
    assert [(one["step"], one["steps"], one["eta_ms"]) for one in steps] == [(1, 2, 40), (2, 2, 0)]
    assert set(by_type["done"]) == {"timings_ms"}
    assert by_type["image"]["image"]["media_type"] == "image/webp"


async def test_its_picture_is_the_one_of_the_json_answer(client: httpx.AsyncClient) -> None:
    (image,) = (one for one in read(await post(client)) if one["type"] == "image")
    whole = (await client.post("/graph", files={"file": b"sound"}, headers={"accept": "application/json"})).json()
    assert {key: image[key] for key in ("image", "prompt", "prompt_truncated", "seed", "models")} == {
        key: whole[key] for key in ("image", "prompt", "prompt_truncated", "seed", "models")
    }


async def test_what_is_refused_before_work_starts_is_no_stream(client: httpx.AsyncClient, graph: FakeGraph) -> None:
    graph.unheard = AudioUndecodable("not a recording")
    for answer in (await post(client), await post(client, data={"steps": "0"})):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_error_later_is_the_last_event(client: httpx.AsyncClient, graph: FakeGraph) -> None:
    graph.result = NoSpeech("nothing was said")
    *_, last = read(await post(client))
    assert last["type"] == "error"
    assert (last["problem"]["status"], last["problem"]["code"], last["problem"]["detail"]) == (
        422,
        "no_speech",
        "nothing was said",
    )
    assert last["problem"]["request_id"] == last["request_id"]


async def test_a_defect_is_told_without_its_reason(client: httpx.AsyncClient, graph: FakeGraph, caplog: Any) -> None:
    graph.result = DeploymentError("the password is 1234")
    answer = await post(client)
    assert read(answer)[-1]["problem"]["code"] == "internal"
    assert "1234" not in answer.text
    assert "1234" in caplog.text


async def test_silence_is_filled_with_comments(client: httpx.AsyncClient, graph: FakeGraph, monkeypatch: Any) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.01)
    answer = drawing()

    async def slowly(*arguments: Any) -> Any:
        await asyncio.sleep(0.5)
        return answer

    monkeypatch.setattr(graph, "draw", slowly)
    text = (await post(client)).text
    assert text.count(": keep-alive\n\n") >= 3
    assert [one["type"] for one in read(await post(client))] == ["accepted", "image", "done"]


async def test_a_client_that_leaves_ends_the_drawing_and_gives_its_place_back(caplog: Any) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    graph = EndlessGraph()
    app = create_app(graph, Rooms("sonograph", (), lambda: serve_status()), HttpSettings(max_requests=1), SERVED)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        leaving = asyncio.create_task(post(client))
        await graph.began.wait()
        full = await post(client)
        assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "overloaded", "2")
        leaving.cancel()  # as Serve cancels the app when its client has gone
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await asyncio.wait_for(graph.stopped.wait(), 5)
        graph.endless = False
        assert (await post(client)).status_code == 200
    lines = [json.loads(record.message) for record in caplog.records if record.message.startswith("{")]
    assert [(line["status"], line["cancelled"]) for line in lines][-1] == (200, False)
    assert (499, True) in [(line["status"], line["cancelled"]) for line in lines]


@pytest.mark.parametrize(
    "end", [{"type": "http.disconnect"}, TaskCancelledError(), ActorDiedError()], ids=lambda end: str(type(end))
)
async def test_the_log_says_that_a_client_left_however_serve_tells_it(end: dict[str, str] | Exception) -> None:
    """Serve's `receive` raises Ray's errors where its proxy has cancelled the request, or died."""
    graph = EndlessGraph()
    app = create_app(graph, Rooms("sonograph", (), lambda: serve_status()), HttpSettings(), SERVED)
    messages: list[Any] = [{"type": "http.request", "body": b"sound", "more_body": False}]
    told = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await told.wait()
        if isinstance(end, Exception):
            raise end
        return end

    async def send(message: Any) -> None:
        if message.get("body"):
            told.set()

    headers = [(b"accept", b"text/event-stream"), (b"content-type", b"audio/wav")]
    scope = {"type": "http", "method": "POST", "path": "/graph", "query_string": b"", "headers": headers}
    await asyncio.wait_for(app(scope, receive, send), 10)
    assert graph.stopped.is_set()
    assert [(line.status, line.cancelled) for line in graph.lines] == [(499, True)]


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, */*;q=0.1", "TEXT/EVENT-STREAM"])
def test_events_are_for_who_asks(accept: str) -> None:
    assert negotiate(accept, None) == ("text/event-stream", "png")
    assert negotiate(accept, "webp") == ("text/event-stream", "webp")


@pytest.mark.parametrize("accept", [None, "*/*", "text/html, */*", "image/*, text/event-stream;q=0.1"])
def test_others_get_a_picture(accept: str | None) -> None:
    assert negotiate(accept, None)[0] == "image/png"
