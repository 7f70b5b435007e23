"""The HTTP edge over stages that answer at once: routes, headers, and one shape for every error."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deployments.errors import (
    ContentRefused,
    DeadlineExceeded,
    DeploymentError,
    InvalidInput,
    ModelUnavailable,
    NoSpeech,
    Overloaded,
)
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.roles.text_to_image import GenerateRequest
from graphs.audio.errors import AudioTooLong, AudioUndecodable
from graphs.core.parameters import GraphParameters
from graphs.http.schemas.openapi import ERRORS, GRAPH
from graphs.http.settings import HttpSettings
from graphs.voice_to_image import DrawParameters
from graphs.voice_to_text import ListenParameters
from testing.fakes import PNG, FakeService, deployment_status, serve_status, transcript

RECORDING = b"a recording"
NEW_ID = re.compile("[0-9a-f]{32}")


class Edge(FakeService):
    """Service with one app, and its client."""

    def __init__(self, deadline_s: float = 50) -> None:
        super().__init__(HttpSettings(max_upload_bytes=1000, deadline_s=deadline_s))
        self.edge = self.app()
        transport = httpx.ASGITransport(self.edge, raise_app_exceptions=False)
        self.http_client = httpx.AsyncClient(transport=transport, base_url="http://service")

    async def post(self, path: str = "/graph", **options: Any) -> httpx.Response:
        return await self.http_client.post(path, **{"files": {"file": RECORDING}, **options})

    @property
    def untouched(self) -> bool:
        """True if no request has reached the decoder or a stage."""
        return self.recordings == self.whisper.calls == self.diffusion.calls == []


@pytest.fixture
async def service() -> AsyncIterator[Edge]:
    service = Edge()
    async with service.http_client:
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


async def test_a_recording_is_answered_with_a_png_and_its_headers(service: Edge) -> None:
    answer = await service.post(data={"seed": "7"})
    assert answer.status_code == 200
    assert answer.content == PNG
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-transcript"] == "a%20red%20apple"
    assert answer.headers["x-seed"] == "7"
    assert re.fullmatch(
        r"decode;dur=[\d.]+, whisper;dur=[\d.]+, diffusion;dur=[\d.]+, encode;dur=[\d.]+", answer.headers["server-timing"]
    )
    assert service.recordings == [RECORDING]
    ((transcribe, context),) = service.whisper.calls
    assert (transcribe.audio.size, transcribe.language, transcribe.task) == (16_000, "", "transcribe")
    assert service.diffusion.calls == [(GenerateRequest("a red apple", seed=7), context)]
    assert 0 < context.time_left.seconds <= 50
    assert context.emit is None


async def test_the_graph_without_images_answers_with_the_transcript(service: Edge) -> None:
    answer = await service.post("/listen", data={"language": " de ", "task": "translate"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    content = answer.json()
    assert set(content) == {"request_id", "transcript", "language", "segments", "timings_ms", "models"}
    assert (content["transcript"], content["language"], content["models"]) == ("a red apple", "en", {"whisper": "tiny.en"})
    assert set(content["timings_ms"]) == {"decode", "whisper"}
    assert re.fullmatch(r"decode;dur=[\d.]+, whisper;dur=[\d.]+", answer.headers["server-timing"])
    ((request, context),) = service.whisper.calls
    assert isinstance(request, TranscribeRequest)
    assert (request.language, request.task) == ("de", "translate")
    assert content["request_id"] == context.id
    assert service.diffusion.calls == []


async def test_form_query_and_raw_body_give_the_same_request_to_draw(service: Edge) -> None:
    await service.post(params={"steps": "4"}, data={"seed": "9", "output_format": "webp"})
    query = {"steps": "4", "seed": "9", "output_format": "webp"}
    await service.post(files=None, content=RECORDING, params=query, headers={"content-type": "audio/wav"})
    (form, _), (raw, _) = service.diffusion.calls
    assert form == raw == GenerateRequest("a red apple", steps=4, seed=9, format="webp")
    assert service.recordings == [RECORDING, RECORDING]


async def test_form_query_and_raw_body_give_the_same_request_to_transcribe(service: Edge) -> None:
    await service.post("/listen", params={"task": "translate"}, data={"language": "de"})
    await service.post(
        "/listen",
        files=None,
        content=RECORDING,
        params={"task": "translate", "language": "de"},
        headers={"content-type": "audio/wav"},
    )
    requests = [(request.language, request.task) for request, _ in service.whisper.calls]
    assert requests == [("de", "translate")] * 2
    assert service.recordings == [RECORDING, RECORDING]


async def test_the_answer_is_json_if_accept_requests_it(service: Edge) -> None:
    answer = await service.post(headers={"accept": "application/json"}, data={"output_format": "jpeg"})
    content = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(content) == {
        "request_id", "transcript", "language", "segments", "prompt", "prompt_truncated", "seed", "image", "timings_ms", "models",
    }  # fmt: skip
    assert set(content["image"]) == {"media_type", "base64", "width", "height"}
    assert set(content["segments"][0]) == {"start", "end", "text", "avg_logprob", "no_speech_prob"}
    assert content["image"]["media_type"] == "image/jpeg"
    assert content["request_id"] == service.whisper.calls[0][1].id


async def test_several_accept_headers_are_combined(service: Edge) -> None:
    answer = await service.post(headers=[("accept", "text/html"), ("accept", "image/webp")])
    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("id", ["a", "x" * 64, "A-b_c.9", "550e8400-e29b-41d4-a716-446655440000"])
async def test_a_well_formed_request_id_is_kept(service: Edge, id: str) -> None:
    answer = await service.post(headers={"accept": "application/json", "x-request-id": id})
    assert answer.json()["request_id"] == service.whisper.calls[0][1].id == id


@pytest.mark.parametrize("id", ["", "x" * 65, "a b", "a\tb", "ä", "a;b", "../a", "a%0a"])
async def test_another_request_id_is_replaced(service: Edge, id: str) -> None:
    answer = await service.post(headers={"accept": "application/json", "x-request-id": id.encode("latin-1")})
    assert NEW_ID.fullmatch(answer.json()["request_id"])


REFUSED: list[tuple[dict[str, Any], int, str]] = [
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
    ({"headers": {"x-timeout-ms": "soon"}}, 422, "invalid_parameter"),
    ({"params": {"task": "sing"}}, 422, "invalid_parameter"),
    ({"params": {"language": "de"}, "data": {"language": "de"}}, 422, "invalid_parameter"),
]
"""Requests that every graph refuses."""


@pytest.mark.parametrize(
    ("path", "options", "status", "code"),
    [
        *[("/graph", *refused) for refused in REFUSED],
        *[("/listen", *refused) for refused in REFUSED],
        ("/graph", {"params": {"steps": "151"}}, 422, "invalid_parameter"),
        ("/graph", {"data": {"width": "264"}}, 422, "invalid_parameter"),
        ("/graph", {"params": {"steps": "4"}, "data": {"steps": "4"}}, 422, "invalid_parameter"),
        ("/listen", {"headers": {"accept": "image/png"}}, 406, "not_acceptable"),
        ("/listen", {"data": {"steps": "4"}}, 422, "invalid_parameter"),
        ("/listen", {"data": {"output_format": "png"}}, 422, "invalid_parameter"),
    ],
)
async def test_a_request_that_the_edge_refuses_reaches_neither_decoder_nor_model(
    service: Edge, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    is_problem(await service.post(path, **options), status, code)
    assert service.untouched
    assert (await service.post(path)).status_code == 200


async def test_the_first_fault_is_reported_in_the_order_body_parameters_accept_readiness_decoding(service: Edge) -> None:
    service.whisper.unready = ModelUnavailable("x")
    service.whisper.unready.stage = "whisper"
    service.undecodable = AudioUndecodable("x")
    bad = {"headers": {"accept": "text/html"}, "data": {"steps": "151"}}
    is_problem(await service.post(files={"other": b""}, **bad), 400, "malformed_request")
    is_problem(await service.post(**bad), 422, "invalid_parameter")
    is_problem(await service.post(headers=bad["headers"]), 406, "not_acceptable")
    is_problem(await service.post(), 503, "model_unavailable", "whisper")
    service.whisper.unready = None
    assert service.untouched
    is_problem(await service.post(), 422, "audio_undecodable", "decode")
    assert service.whisper.calls == []


async def test_no_stage_starts_while_a_later_one_does_not_serve(service: Edge) -> None:
    service.diffusion.unready = ModelUnavailable("diffusion is starting")
    service.diffusion.unready.stage = "diffusion"
    for accept in ("*/*", "application/json", "text/event-stream"):
        answer = await service.post(headers={"accept": accept})
        is_problem(answer, 503, "model_unavailable", "diffusion")
        assert answer.headers["retry-after"] == "5"
    assert service.untouched
    assert (await service.post("/listen")).status_code == 200


async def test_a_transcription_is_refused_before_decoding_while_its_model_does_not_serve(service: Edge) -> None:
    service.whisper.unready = ModelUnavailable("whisper is starting")
    service.whisper.unready.stage = "whisper"
    is_problem(await service.post("/listen"), 503, "model_unavailable", "whisper")
    assert service.untouched


def fail(service: Edge, stage: str, error: Exception) -> None:
    """Make the decoder, or a stage, raise the error."""
    if isinstance(error, DeploymentError) and stage != "decode":
        error.stage = stage
    if stage == "decode":
        service.undecodable = error
    else:
        service.stages[stage].result = error


@pytest.mark.parametrize(
    ("path", "error", "stage", "retry_after"),
    [
        ("/graph", AudioTooLong("x"), "decode", None),
        ("/graph", AudioUndecodable("x"), "decode", None),
        ("/graph", NoSpeech("x"), "whisper", None),
        ("/graph", InvalidInput("x"), "whisper", None),
        ("/graph", ContentRefused("x"), "diffusion", None),
        ("/graph", Overloaded("x"), "diffusion", "2"),
        ("/graph", ModelUnavailable("x"), "whisper", "5"),
        ("/graph", DeadlineExceeded("x"), "diffusion", None),
        ("/listen", AudioTooLong("x"), "decode", None),
        ("/listen", NoSpeech("x"), "decode", None),
        ("/listen", InvalidInput("x"), "whisper", None),
        ("/listen", Overloaded("x"), "whisper", "2"),
        ("/listen", DeadlineExceeded("x"), "whisper", None),
    ],
)
async def test_an_error_of_a_stage_names_it(
    service: Edge, path: str, error: DeploymentError, stage: str, retry_after: str | None
) -> None:
    fail(service, stage, error)
    answer = await service.post(path)
    assert is_problem(answer, error.status, error.code, stage)["detail"] == "x"
    assert answer.headers.get("retry-after") == retry_after


async def test_a_retry_after_that_an_error_carries_is_sent(service: Edge) -> None:
    error = Overloaded("x")
    error.retry_after_s = 17
    fail(service, "whisper", error)
    assert (await service.post()).headers["retry-after"] == "17"


@pytest.mark.parametrize("stage", ["decode", "whisper", "diffusion"])
@pytest.mark.parametrize("defect", [RuntimeError("secret reason"), DeploymentError("secret reason")])
async def test_a_defects_reason_goes_to_the_log_and_not_to_the_client(
    service: Edge, defect: Exception, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    fail(service, stage, defect)
    with caplog.at_level(logging.ERROR, "ray.serve"):
        answer = await service.post()
    problem = is_problem(answer, 500, "internal", None if type(defect) is RuntimeError and stage != "decode" else stage)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert problem["request_id"] in problem["detail"]
    (record,) = (
        one for one in caplog.records if one.name == "ray.serve" and not one.getMessage().startswith('{"event": "request"')
    )
    assert problem["request_id"] in record.getMessage()
    assert "secret reason" in caplog.text
    service.undecodable = None
    service.whisper.result = transcript()
    assert (await service.post("/listen")).status_code == 200


class AsgiClient:
    """Client that sends `messages` and then nothing more, and keeps the answer's messages."""

    scope = {
        "type": "http",
        "method": "POST",
        "http_version": "1.1",
        "path": "/graph",
        "query_string": b"",
        "headers": [(b"content-type", b"audio/wav")],
    }

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)
        self.received: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        return self._messages.pop(0) if self._messages else await asyncio.Future()

    async def send(self, message: Any) -> None:
        self.received.append(message)


FIRST_CHUNK = {"type": "http.request", "body": b"RIFF", "more_body": True}


async def test_a_client_that_disconnects_during_its_upload_is_no_defect(service: Edge, caplog: pytest.LogCaptureFixture) -> None:
    client = AsgiClient(FIRST_CHUNK, {"type": "http.disconnect"})
    await service.edge(client.scope, client.receive, client.send)
    assert client.received[0]["status"] == 400
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
    assert service.untouched


async def test_the_deadline_ends_an_upload_that_does_not_end() -> None:
    service, client = Edge(deadline_s=0.05), AsgiClient(FIRST_CHUNK)
    await service.edge(client.scope, client.receive, client.send)
    assert client.received[0]["status"] == 504
    assert b'"code":"deadline_exceeded"' in client.received[1]["body"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/graphs", 404, "not_found"),
        ("PUT", "/graph", 405, "method_not_allowed"),
        ("GET", "/listen", 405, "method_not_allowed"),
        ("DELETE", "/readyz", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods_are_problems_too(service: Edge, method: str, path: str, status: int, code: str) -> None:
    answer = await service.http_client.request(method, path)
    is_problem(answer, status, code)
    assert ("allow" in answer.headers) == (status == 405)


async def test_fastapis_own_refusals_have_the_same_shape(service: Edge) -> None:
    @service.edge.get("/numbers/{number}")
    async def numbers(number: int) -> int:
        return number

    is_problem(await service.http_client.get("/numbers/seven"), 422, "invalid_parameter")


async def test_healthz_does_not_depend_on_the_models(service: Edge) -> None:
    service.status = serve_status()
    answer = await service.http_client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "requests": 0})


async def test_readyz_names_every_model_that_is_ready(service: Edge) -> None:
    answer = await service.http_client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "models": {"whisper": "ready", "diffusion": "ready"}}


async def test_readyz_names_the_model_that_is_not_ready_its_phase_and_the_reason(service: Edge) -> None:
    starting = deployment_status("UPDATING", "fetching weights", STARTING=1)
    service.status = serve_status(whisper=deployment_status(), diffusion=starting)
    answer = await service.http_client.get("/readyz")
    problem = is_problem(answer, 503, "model_unavailable")
    assert problem["detail"] == "diffusion is starting: fetching weights"
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("path", "parameters", "formats", "headers"),
    [
        ("/graph", DrawParameters, {"image/png", "image/jpeg", "image/webp"}, {"X-Transcript", "X-Seed"}),
        ("/listen", ListenParameters, set(), set()),
    ],
)
async def test_openapi_describes_every_parameter_header_and_error_of_a_graph(
    service: Edge, path: str, parameters: type[GraphParameters], formats: set[str], headers: set[str]
) -> None:
    document = (await service.http_client.get("/openapi.json")).json()
    post = document["paths"][path]["post"]
    described = {parameter["name"]: parameter for parameter in post["parameters"]}
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    for header in ("X-Timeout-Ms", "X-Request-ID", "traceparent", "tracestate"):
        assert described.pop(header)["in"] == "header"
    assert set(described) == set(parameters.model_fields) == set(form["properties"]) - {"file"}
    assert form["required"] == ["file"]
    for name, parameter in described.items():
        assert parameter["in"] == "query"
        assert parameter["description"]
        assert form["properties"][name]["description"]
    assert {"audio/*", "application/octet-stream", "video/webm", "video/mp4"} < set(post["requestBody"]["content"])
    responses = post["responses"]
    assert set(responses["200"]["content"]) == {*formats, "application/json", "text/event-stream"}
    assert set(responses["200"]["headers"]) == {
        "X-Request-ID",
        *headers,
        "Server-Timing",
        "X-Trace-ID",
        "traceresponse",
        "X-Decode-Warnings",
    }
    for error in GRAPH:
        response = responses[str(error.status)]
        assert f"`{error.code}`" in response["description"]
        assert "code" in response["content"]["application/problem+json"]["schema"]["properties"]


async def test_openapi_describes_every_route_and_error(service: Edge) -> None:
    document = (await service.http_client.get("/openapi.json")).json()
    text = json.dumps(document["paths"])
    assert [error.code for error in ERRORS if f"`{error.code}`" not in text] == []
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]
    assert set(document["paths"]) == {
        "/graph", "/listen", "/healthz", "/readyz", "/v1/images/generations", "/v1/models", "/v1/models/{model}",
        "/v1/audio/transcriptions", "/v1/audio/translations", "/graph/rollouts", "/graph/rollouts/{stage}",
        "/graph/rollouts/{stage}/samples", "/graph/traces/{id}",
    }  # fmt: skip


def test_openapi_lists_every_error_class() -> None:
    def with_subclasses(error: type[DeploymentError]) -> set[type[DeploymentError]]:
        return {error}.union(*(with_subclasses(subclass) for subclass in error.__subclasses__()))

    modules = ("deployments.errors", "graphs.audio.errors", "graphs.http.errors", "graphs.rollouts.errors")
    defined = {error for error in with_subclasses(DeploymentError) if error.__module__ in modules}
    assert set(ERRORS) == defined
    assert len({error.code for error in ERRORS}) == len(ERRORS)


async def test_the_docs_name_no_other_host_and_run_no_script_of_a_page(service: Edge) -> None:
    page = await service.http_client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "//" not in page.text
    assert not re.search(r"<script>|<style>| style=| on[a-z]+=", page.text)
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        for encoding in ("gzip", "identity"):
            file = await service.http_client.get(path, headers={"accept-encoding": encoding})
            assert (file.status_code, file.headers.get("content-encoding")) == (200, "gzip" if encoding == "gzip" else None)
            assert len(file.text) > 50
            assert file.headers["content-type"].split(";")[0] == ("text/css" if path.endswith("css") else "text/javascript")
    assert 'url: "/openapi.json"' in (await service.http_client.get("/docs/begin.js")).text
    assert (await service.http_client.get("/redoc")).status_code == 404


async def test_concurrent_requests_get_their_own_answers(service: Edge) -> None:
    ids = [f"request-{number}" for number in range(20)]
    answers = await asyncio.gather(*(service.post(headers={"x-request-id": id, "accept": "application/json"}) for id in ids))
    assert [answer.json()["request_id"] for answer in answers] == ids
