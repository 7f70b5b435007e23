"""The HTTP edge over a graph that draws at once: routes, headers, and one shape for every error."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from deployments import errors as rooms_errors
from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable, Overloaded
from graphs.core.readiness import Rooms
from graphs.http.app import create_app
from graphs.http.errors import AudioTooLong, AudioUndecodable
from graphs.http.parameters import DrawParameters
from graphs.http.schemas.openapi import ERRORS, GRAPH
from graphs.http.settings import HttpSettings
from testing.fakes import PNG, SERVED, FakeGraph, drawing, room_status, serve_status

RECORDING = b"a recording"
NEW_ID = re.compile("[0-9a-f]{32}")


class Edge:
    """The app, and what stands behind it."""

    def __init__(self, deadline_s: float = 50) -> None:
        self.graph = FakeGraph()
        self.status = serve_status(whisper=room_status(), diffusion=room_status())
        rooms = Rooms("sonograph", ("whisper", "diffusion"), lambda: self.status)
        self.app: FastAPI = create_app(self.graph, rooms, HttpSettings(max_upload_bytes=1000, deadline_s=deadline_s), SERVED)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")

    async def post(self, **options: Any) -> httpx.Response:
        return await self.client.post("/graph", **{"files": {"file": RECORDING}, **options})


@pytest.fixture
async def service() -> AsyncIterator[Edge]:
    service = Edge()
    async with service.client:
        yield service


def is_problem(answer: httpx.Response, status: int, code: str, stage: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = dict(answer.json())
    assert problem["type"] == f"urn:sonograph:problem:{code}"
    assert (problem["status"], problem["code"], problem["stage"]) == (status, code, stage)
    assert problem["title"]
    assert problem["detail"]
    assert NEW_ID.fullmatch(problem["request_id"])
    assert set(problem) == {"type", "title", "status", "detail", "code", "stage", "request_id"}
    return problem


async def test_a_recording_comes_back_as_a_png_with_its_headers(service: Edge) -> None:
    answer = await service.post()
    assert answer.status_code == 200
    assert answer.content == PNG
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-transcript"] == "a%20red%20apple"
    assert answer.headers["x-seed"] == "7"
    assert re.fullmatch(
        r"decode;dur=[\d.]+, whisper;dur=[\d.]+, diffusion;dur=[\d.]+, encode;dur=[\d.]+", answer.headers["server-timing"]
    )
    ((recording, parameters, format, given),) = service.graph.requests
    assert (recording, parameters, format) == (RECORDING, DrawParameters(), "png")
    assert 0 < given.time_left.seconds <= 50
    assert given.tell is None


async def test_form_query_and_a_raw_body_reach_the_graph_alike(service: Edge) -> None:
    await service.post(params={"steps": "4"}, data={"seed": "9", "output_format": "webp"})
    await service.post(
        files=None,
        content=RECORDING,
        params={"steps": "4", "seed": "9", "output_format": "webp"},
        headers={"content-type": "audio/wav"},
    )
    form, raw = service.graph.requests
    assert form[:3] == raw[:3] == (RECORDING, DrawParameters(steps=4, seed=9, output_format="webp"), "webp")


async def test_json_is_given_where_accept_asks_for_it(service: Edge) -> None:
    answer = await service.post(headers={"accept": "application/json"}, data={"output_format": "jpeg"})
    content = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(content) == {
        "request_id", "transcript", "language", "segments", "prompt", "prompt_truncated", "seed", "image", "timings_ms", "models",
    }  # fmt: skip
    assert set(content["image"]) == {"media_type", "base64", "width", "height"}
    assert set(content["segments"][0]) == {"start", "end", "text", "avg_logprob", "no_speech_prob"}
    assert content["image"]["media_type"] == "image/jpeg"
    assert content["request_id"] == service.graph.requests[0][3].line.request_id


async def test_several_accept_headers_count_as_one(service: Edge) -> None:
    answer = await service.post(headers=[("accept", "text/html"), ("accept", "image/webp")])
    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("given", ["a", "x" * 64, "A-b_c.9", "550e8400-e29b-41d4-a716-446655440000"])
async def test_a_well_formed_request_id_is_kept(service: Edge, given: str) -> None:
    answer = await service.post(headers={"accept": "application/json", "x-request-id": given})
    assert answer.json()["request_id"] == service.graph.requests[0][3].line.request_id == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "ä", "a;b", "../a", "a%0a"])
async def test_another_request_id_is_replaced(service: Edge, given: str) -> None:
    answer = await service.post(headers={"accept": "application/json", "x-request-id": given.encode("latin-1")})
    assert NEW_ID.fullmatch(answer.json()["request_id"])


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"files": {"other": RECORDING}}, 400, "malformed_request"),
        (
            {"files": None, "content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "malformed_request",
        ),
        ({"headers": {"accept": "text/html"}}, 406, "not_acceptable"),
        ({"files": {"file": bytes(1001)}}, 413, "audio_too_large"),
        ({"files": None, "content": bytes(1001), "headers": {"content-type": "audio/wav"}}, 413, "audio_too_large"),
        ({"files": None, "json": {"file": "x"}}, 415, "unsupported_media_type"),
        ({"headers": {"content-encoding": "gzip"}}, 415, "unsupported_media_type"),
        ({"params": {"steps": "151"}}, 422, "invalid_parameter"),
        ({"data": {"width": "264"}}, 422, "invalid_parameter"),
        ({"params": {"steps": "4"}, "data": {"steps": "4"}}, 422, "invalid_parameter"),
    ],
)
async def test_what_the_edge_refuses_never_reaches_the_graph(
    service: Edge, options: dict[str, Any], status: int, code: str
) -> None:
    is_problem(await service.post(**options), status, code)
    assert service.graph.requests == []
    assert (await service.post()).status_code == 200


@pytest.mark.parametrize(
    ("error", "stage", "retry_after"),
    [
        (AudioTooLong("x"), "decode", None),
        (AudioUndecodable("x"), "decode", None),
        (rooms_errors.NoSpeech("x"), "whisper", None),
        (InvalidInput("x"), "whisper", None),
        (rooms_errors.ContentRefused("x"), "diffusion", None),
        (Overloaded("x"), "diffusion", "2"),
        (ModelUnavailable("x"), "whisper", "5"),
        (DeadlineExceeded("x"), "diffusion", None),
    ],
)
async def test_what_a_room_refuses_names_its_stage(
    service: Edge, error: DeploymentError, stage: str, retry_after: str | None
) -> None:
    error.stage = stage
    service.graph.result = error
    answer = await service.post()
    assert is_problem(answer, error.status, error.code, stage)["detail"] == "x"
    assert answer.headers.get("retry-after") == retry_after


async def test_a_retry_after_that_an_error_carries_is_sent(service: Edge) -> None:
    service.graph.result = Overloaded("x")
    service.graph.result.retry_after_s = 17
    assert (await service.post()).headers["retry-after"] == "17"


@pytest.mark.parametrize("defect", [RuntimeError("secret reason"), DeploymentError("secret reason")])
async def test_a_defect_is_told_to_the_log_and_not_to_the_client(
    service: Edge, defect: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    service.graph.result = defect
    with caplog.at_level(logging.ERROR, "ray.serve"):
        answer = await service.post()
    problem = is_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert problem["request_id"] in problem["detail"]
    (record,) = (record for record in caplog.records if record.name == "ray.serve")
    assert problem["request_id"] in record.getMessage()
    assert "secret reason" in caplog.text
    service.graph.result = drawing()
    assert (await service.post()).status_code == 200


class Caller:
    """Sends `messages`, then nothing more; keeps what is answered."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/graph",
        "query_string": b"",
        "headers": [(b"content-type", b"audio/wav")],
    }

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)
        self.answered: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        return self._messages.pop(0) if self._messages else await asyncio.Future()

    async def send(self, message: Any) -> None:
        self.answered.append(message)


BEGUN = {"type": "http.request", "body": b"RIFF", "more_body": True}


async def test_a_client_that_leaves_during_its_upload_is_no_defect(service: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caller = Caller(BEGUN, {"type": "http.disconnect"})
    await service.app(caller.scope, caller.receive, caller.send)
    assert caller.answered[0]["status"] == 400
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
    assert service.graph.requests == []


async def test_an_upload_that_does_not_end_is_ended_by_the_deadline() -> None:
    service, caller = Edge(deadline_s=0.05), Caller(BEGUN)
    await service.app(caller.scope, caller.receive, caller.send)
    assert caller.answered[0]["status"] == 504
    assert b'"code":"deadline_exceeded"' in caller.answered[1]["body"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/graphs", 404, "not_found"),
        ("GET", "/graph", 405, "method_not_allowed"),
        ("DELETE", "/readyz", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods_are_problems_too(service: Edge, method: str, path: str, status: int, code: str) -> None:
    answer = await service.client.request(method, path)
    is_problem(answer, status, code)
    assert ("allow" in answer.headers) == (status == 405)


async def test_fastapis_own_refusals_take_the_same_shape(service: Edge) -> None:
    @service.app.get("/numbers/{number}")
    async def numbers(number: int) -> int:
        return number

    is_problem(await service.client.get("/numbers/seven"), 422, "invalid_parameter")


async def test_healthz_answers_whatever_the_rooms_do(service: Edge) -> None:
    service.status = serve_status()
    answer = await service.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "requests": 0})


async def test_readyz_names_every_room_that_is_ready(service: Edge) -> None:
    answer = await service.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "rooms": {"whisper": "ready", "diffusion": "ready"}}


async def test_readyz_names_the_room_that_is_not_its_phase_and_the_reason(service: Edge) -> None:
    starting = room_status("UPDATING", "fetching weights", STARTING=1)
    service.status = serve_status(whisper=room_status(), diffusion=starting)
    answer = await service.client.get("/readyz")
    problem = is_problem(answer, 503, "model_unavailable")
    assert problem["detail"] == "diffusion is starting: fetching weights"
    assert answer.headers["retry-after"] == "5"


async def test_openapi_describes_every_parameter_header_and_error(service: Edge) -> None:
    document = (await service.client.get("/openapi.json")).json()
    post = document["paths"]["/graph"]["post"]
    described = {parameter["name"]: parameter for parameter in post["parameters"]}
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    for header in ("X-Timeout-Ms", "X-Request-ID"):
        assert described.pop(header)["in"] == "header"
    assert set(described) == set(DrawParameters.model_fields) == set(form["properties"]) - {"file"}
    assert form["required"] == ["file"]
    for name, parameter in described.items():
        assert parameter["in"] == "query"
        assert parameter["description"]
        assert form["properties"][name]["description"]
    assert {"audio/*", "application/octet-stream", "video/webm", "video/mp4"} < set(post["requestBody"]["content"])
    responses = post["responses"]
    assert set(responses["200"]["content"]) == {"image/png", "image/jpeg", "image/webp", "application/json", "text/event-stream"}
    assert set(responses["200"]["headers"]) == {"X-Request-ID", "X-Transcript", "X-Seed", "Server-Timing"}
    for error in GRAPH:
        response = responses[str(error.status)]
        assert f"`{error.code}`" in response["description"]
        assert "code" in response["content"]["application/problem+json"]["schema"]["properties"]
    told = json.dumps(document["paths"])
    assert [error.code for error in ERRORS if f"`{error.code}`" not in told] == []
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]
    assert set(document["paths"]) == {
        "/graph", "/healthz", "/readyz", "/v1/images/generations", "/v1/models", "/v1/models/{model}",
        "/v1/audio/transcriptions", "/v1/audio/translations",
    }  # fmt: skip


async def test_openapi_lists_every_error_class_there_is(service: Edge) -> None:
    def all_below(error: type[DeploymentError]) -> set[type[DeploymentError]]:
        return {error}.union(*(all_below(below) for below in error.__subclasses__()))

    named = {error for error in all_below(DeploymentError) if error.__module__ in ("deployments.errors", "graphs.http.errors")}
    assert set(ERRORS) == named
    assert len({error.code for error in ERRORS}) == len(ERRORS)


async def test_the_docs_name_no_other_host_and_run_no_script_of_a_page(service: Edge) -> None:
    page = await service.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "//" not in page.text
    assert not re.search(r"<script>|<style>| style=| on[a-z]+=", page.text)
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        for encoding in ("gzip", "identity"):
            file = await service.client.get(path, headers={"accept-encoding": encoding})
            assert (file.status_code, file.headers.get("content-encoding")) == (200, "gzip" if encoding == "gzip" else None)
            assert len(file.text) > 50
            assert file.headers["content-type"].split(";")[0] == ("text/css" if path.endswith("css") else "text/javascript")
    assert 'url: "/openapi.json"' in (await service.client.get("/docs/begin.js")).text
    assert (await service.client.get("/redoc")).status_code == 404


async def test_requests_at_once_get_their_own_answers(service: Edge) -> None:
    ids = [f"request-{number}" for number in range(20)]
    answers = await asyncio.gather(*(service.post(headers={"x-request-id": id, "accept": "application/json"}) for id in ids))
    assert [answer.json()["request_id"] for answer in answers] == ids
