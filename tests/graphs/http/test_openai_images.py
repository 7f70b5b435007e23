"""POST /v1/images/generations over stages that answer at once: bodies, refusals, events."""

import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import DeploymentError, InvalidInput, ModelUnavailable, Overloaded
from deployments.roles.text_to_image import GenerateRequest, Preview, Step
from graphs.core.progress import Queued, Retry
from graphs.http.routes.openai.images import ImageParameters, parse
from graphs.http.settings import HttpSettings
from testing.fakes import CHARACTERS, PNG, FakeService

PATH = "/v1/images/generations"
EVENTS = (Queued("diffusion", 2), Step(1, 2, 40.4, Preview(b"\xff\xd8jpeg", 32, 16)), Retry("diffusion"), Step(2, 2, 0.0))


@pytest.fixture
def service() -> FakeService:
    service = FakeService(HttpSettings(deadline_s=50))
    service.diffusion.progress = EVENTS
    return service


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service.app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def post(client: httpx.AsyncClient, **parameters: Any) -> httpx.Response:
    return await client.post(PATH, json={"prompt": "a red apple", **parameters})


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the events' data, and check that each event's name is the type in its data."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        event, data = block.split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert event == f"event: {content['type']}"
        found.append(content)
    return found


def is_refused(answer: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    return str(error["message"])


async def test_a_prompt_is_answered_in_openais_format(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    answer = await post(client, model="stable-diffusion", seed=5, size="64x72", output_format="webp", steps=3, guidance_scale=2)
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("created") > 1_700_000_000
    assert body == {
        "background": "opaque",
        "output_format": "webp",
        "size": "64x64",  # of the fake's image
        "data": [{"b64_json": base64.b64encode(PNG).decode(), "seed": 5, "prompt_truncated": False}],
    }
    ((request, context),) = service.diffusion.calls
    assert request == GenerateRequest("a red apple", "", 3, 2.0, 64, 72, seed=5, format="webp")
    (line,) = (json.loads(record.getMessage()) for record in caplog.records)
    assert (line["route"], line["seed"], line["steps"]) == (PATH, 5, 12)
    assert 0 < context.time_left.seconds <= 50


async def test_several_images_have_consecutive_seeds(client: httpx.AsyncClient, service: FakeService) -> None:
    body = (await post(client, n=3, seed=2**32 - 2)).json()
    assert [one["seed"] for one in body["data"]] == [2**32 - 2, 2**32 - 1, 0]
    assert [request.seed for request, _ in service.diffusion.calls] == [2**32 - 2, 2**32 - 1, 0]
    assert (await post(client)).json()["data"][0]["seed"] != (await post(client)).json()["data"][0]["seed"]


@pytest.mark.parametrize("size", [None, "auto"])
async def test_auto_is_the_models_own_size(client: httpx.AsyncClient, service: FakeService, size: str | None) -> None:
    assert (await post(client, size=size)).status_code == 200
    assert (service.diffusion.calls[0][0].width, service.diffusion.calls[0][0].height) == (None, None)


async def test_a_stream_has_openais_events(client: httpx.AsyncClient, service: FakeService) -> None:
    preview, done = events(await post(client, stream=True, partial_images=3, seed=5))
    common = {"background": "opaque", "quality": "auto"}
    assert preview.pop("created_at") <= done.pop("created_at")
    assert preview == {
        "type": "image_generation.partial_image",
        "b64_json": base64.b64encode(b"\xff\xd8jpeg").decode(),
        "partial_image_index": 0,
        "size": "32x16",
        "output_format": "jpeg",
        **common,
    }
    assert done == {
        "type": "image_generation.completed",
        "b64_json": base64.b64encode(PNG).decode(),
        "size": "64x64",
        "output_format": "png",
        "usage": None,
        "seed": 5,
        "prompt_truncated": False,
        **common,
    }
    assert service.diffusion.calls[0][0].previews == 3


async def test_progress_is_sent_if_requested(client: httpx.AsyncClient) -> None:
    queued, first, preview, second, done = events(await post(client, stream=True, progress=True))
    assert queued == {"type": "image_generation.queued", "position": 2}
    assert first == {"type": "image_generation.step", "step": 1, "steps": 2, "eta_ms": 40}
    assert second == {"type": "image_generation.step", "step": 2, "steps": 2, "eta_ms": 0}
    assert (preview["type"], done["type"]) == ("image_generation.partial_image", "image_generation.completed")


async def test_an_error_in_a_stream_is_an_event_that_openais_client_raises(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    service.diffusion.result = ModelUnavailable("gone")
    last = events(await post(client, stream=True))[-1]
    assert last == {
        "type": "error",
        "error": {"message": "gone", "type": "server_error", "param": None, "code": "model_unavailable"},
    }
    (line,) = (json.loads(record.getMessage()) for record in caplog.records)
    assert (line["status"], line["code"]) == (503, "model_unavailable")


@pytest.mark.parametrize(
    ("parameters", "param", "message_part"),
    [
        ({"response_format": "url"}, "response_format", "b64_json"),
        ({"background": "transparent"}, "background", "opaque"),
        ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"size": "1024x1024"}, "size", "256"),
        ({"size": "60x60"}, "size", "multiples of 8"),
        ({"size": "large"}, "size", "auto"),
        ({"size": "64x64\n"}, "size", "auto"),
        ({"n": 0}, "n", "1"),
        ({"n": 11}, "n", "10"),
        ({"n": 2, "stream": True}, None, "n must be 1 with stream"),
        ({"partial_images": 51}, "partial_images", "50"),
        ({"prompt": ""}, "prompt", "1"),
        ({"prompt": "x" * 4001}, "prompt", "4000"),
        ({"prompt": None}, "prompt", "string"),
        ({"prompt": "\ud800"}, None, ""),
        ({"seed": 2**32}, "seed", "4294967296"),
        ({"seed": "5"}, "seed", "integer"),
        ({"steps": 151}, "steps", "150"),
        ({"timeout_ms": 0}, "timeout_ms", "1"),
        ({"output_compression": 50}, None, "no parameter"),
    ],
)
async def test_an_impossible_parameter_is_refused_by_name(
    client: httpx.AsyncClient, service: FakeService, parameters: dict[str, Any], param: str | None, message_part: str
) -> None:
    answer = await client.post(
        PATH, content=json.dumps({"prompt": "x", **parameters}), headers={"content-type": "application/json"}
    )
    assert message_part in is_refused(answer, 422, "invalid_parameter", param)
    assert service.diffusion.calls == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"null", b'"prompt"', b"[" * 9000, b"\xff", b'{"prompt": ' + b"9" * 5000 + b"}"]
)
async def test_a_body_that_is_not_a_request_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


async def test_a_body_that_is_too_large_or_of_another_type_is_refused(client: httpx.AsyncClient) -> None:
    large = await client.post(PATH, content=b" " * 65537, headers={"content-type": "application/json"})
    is_refused(large, 413, "body_too_large")
    is_refused(await client.post(PATH, data={"prompt": "x"}), 415, "unsupported_media_type")
    packed = await client.post(PATH, content=b"{}", headers={"content-type": "application/json", "content-encoding": "gzip"})
    is_refused(packed, 415, "unsupported_media_type")


@pytest.mark.parametrize("model", ["whisper-1", "dall-e-3", "", "x\n\x1b"])
async def test_a_model_of_another_role_is_not_found(client: httpx.AsyncClient, service: FakeService, model: str) -> None:
    message = is_refused(await post(client, model=model), 404, "model_not_found", "model")
    assert message.endswith("there are small-stable-diffusion, stable-diffusion")
    assert message.isprintable()
    assert service.diffusion.calls == []


@pytest.mark.parametrize("error", [InvalidInput("x"), Overloaded("x"), DeploymentError("secret"), RuntimeError("secret")])
async def test_an_error_of_the_model_has_openais_shape(client: httpx.AsyncClient, service: FakeService, error: Exception) -> None:
    service.diffusion.result = error
    status, code = (error.status, error.code) if isinstance(error, DeploymentError) else (500, "internal")
    answer = await post(client)
    assert "secret" not in is_refused(answer, status, code)
    assert answer.headers.get("retry-after") == ("2" if code == "overloaded" else None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", PATH, 405, "method_not_allowed"), ("POST", "/v1/chat/completions", 404, "not_found")],
)
async def test_other_routes_of_openai_are_refused_in_its_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    is_refused(await client.request(method, path), status, code)


@given(
    st.dictionaries(
        st.sampled_from(list(ImageParameters.model_fields)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(CHARACTERS),
    )
)
def test_any_json_is_accepted_or_refused_with_a_sentence(parameters: dict[str, Any]) -> None:
    try:
        requests = parse(json.dumps({"prompt": "x", **parameters}).encode(), 256).requests()
    except InvalidInput:
        return
    assert all(one.seed in range(2**32) and (one.width or 8) <= 256 for one in requests)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_does_not_serve_is_refused_before_it_is_called(
    client: httpx.AsyncClient, service: FakeService, stream: bool
) -> None:
    service.diffusion.unready = ModelUnavailable("diffusion is starting")
    answer = await post(client, stream=stream)
    assert is_refused(answer, 503, "model_unavailable") == "diffusion is starting"
    assert answer.headers["retry-after"] == "5"
    is_refused(await post(client, stream=stream, steps=151), 422, "invalid_parameter", "steps")
    assert service.diffusion.calls == []


async def test_the_server_timing_of_several_images_is_that_of_the_slowest(client: httpx.AsyncClient) -> None:
    assert (await post(client, n=3)).headers["server-timing"] == "diffusion;dur=30.0, encode;dur=2.0"
