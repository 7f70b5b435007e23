"""Middleware of Serve's proxy: clients cannot control Serve by headers, and Serve's errors become problem details."""

import asyncio
import json
from typing import Any

import pytest
from ray.serve._private.constants import (
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_SESSION_ID,
)
from ray.serve._private.http_util import RequestIdMiddleware, _apply_middlewares, convert_object_to_asgi_messages
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from graphs.http.middleware.body import ProxyBodyMiddleware
from graphs.http.middleware.expect import ProxyExpectMiddleware
from graphs.http.middleware.proxy import FOR_SERVE, MAX_HEADER_BYTES, Headers, Problems, middlewares, warn_if_absent
from testing.service import ROOT


async def forwarded(*headers: tuple[bytes, bytes], type: str = "http") -> list[tuple[bytes, bytes]]:
    """Return the headers that the app behind the middleware receives."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": type, "headers": list(headers)}
    await Headers(app)(scope, None, None)
    assert scope["headers"] == list(headers), "the middleware changes the caller's scope"
    return list(seen[0]["headers"])


OTHER = (b"accept", b"*/*")


@pytest.mark.parametrize("id", [b"a", b"x" * 64, b"A-b_c.9"])
async def test_a_well_formed_request_id_is_forwarded(id: bytes) -> None:
    assert await forwarded(OTHER, (b"x-request-id", id)) == [OTHER, (b"x-request-id", id)]


@pytest.mark.parametrize("id", [b"", b"x" * 65, b"a b", b"a\n", b"\xff\xfe", b"{}", b"a\x1b[31m"])
@pytest.mark.parametrize("type", ["http", "websocket"])
async def test_another_request_id_is_dropped(id: bytes, type: str) -> None:
    assert await forwarded((b"x-request-id", id), OTHER, type=type) == [OTHER]


async def test_several_request_ids_are_all_dropped() -> None:
    assert await forwarded((b"x-request-id", b"a"), OTHER, (b"x-request-id", b"b")) == [OTHER]


@pytest.mark.parametrize("name", [*FOR_SERVE, b"serve_multiplexed_model_id", b"x_session_id", b"x-session_id"])
async def test_headers_that_control_serve_are_dropped(name: bytes) -> None:
    assert await forwarded((name, b"0"), OTHER, (b"x-request-id", b"a")) == [OTHER, (b"x-request-id", b"a")]


async def test_other_headers_and_other_scopes_are_forwarded_unchanged() -> None:
    assert await forwarded(OTHER, (b"x-other", b"\xff")) == [OTHER, (b"x-other", b"\xff")]
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    await Headers(app)({"type": "lifespan"}, None, None)
    assert seen == [{"type": "lifespan"}]


def test_exactly_the_headers_that_serve_obeys_are_dropped() -> None:
    names = (
        SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        SERVE_MULTIPLEXED_MODEL_ID,
        SERVE_SESSION_ID,
    )
    assert {name.replace("_", "-").encode() for name in names} == set(FOR_SERVE)


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ([(b"cookie", b"x" * MAX_HEADER_BYTES)], "send fewer, or shorter cookies"),
        ([(b"x-%d" % number, b"y" * 1000) for number in range(40)], "send fewer, or shorter cookies"),
        ([(b"accept", b"a/b," * 300)], "name fewer media types"),
        ([(b"accept", b"image/png")] * 200, "name fewer media types"),
    ],
)
async def test_headers_beyond_their_bounds_are_refused_before_the_app(headers: list[tuple[bytes, bytes]], sentence: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/graph", "headers": [*headers, (b"x-request-id", b"abc")]}
    await Headers(app)(scope, None, send)
    problem = json.loads(sent[1]["body"])
    assert (sent[0]["status"], problem["code"], problem["request_id"]) == (431, "headers_too_large", "abc")
    assert sentence in problem["detail"]
    assert (b"x-request-id", b"abc") in sent[0]["headers"]


async def test_headers_within_their_bounds_are_forwarded() -> None:
    whole = [(b"cookie", b"x" * (MAX_HEADER_BYTES - 1100)), (b"accept", b"a" * 1024)]
    assert await forwarded(*whole) == whole


async def received() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


class Answer:
    """Answer of `app` behind the middleware, stacked in Serve's order, with ids from Serve's own middleware."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def of(self, app: Any, path: str = "/graph", id: bytes | None = b"abc", bare: bool = False) -> "Answer":
        headers = [(b"x-request-id", id)] if id is not None else []
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        whole = Problems(app) if bare else _apply_middlewares(app, middlewares())
        await whole(scope, received, self.send)
        return self

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def headers(self) -> dict[str, str]:
        pairs = [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]
        names = [name.lower() for name, _ in pairs]
        assert len(names) == len(set(names)), "a header is repeated"
        return {name.lower(): value for name, value in pairs}

    def problem(self) -> Any:
        """Return the problem details, after a check of their common fields."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = json.loads(self.body)
        assert problem["type"] == f"urn:sonograph:problem:{problem['code']}"
        assert problem["status"] == self.status
        assert problem["request_id"] == self.headers["x-request-id"]
        assert [message["type"] for message in self.messages] == ["http.response.start", "http.response.body"]
        return problem


def serve(text: Any, status: int) -> Any:
    """Return an app that answers as Serve's proxy does without a replica."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in convert_object_to_asgi_messages(text, status):
            await send(message)

    return app


def sends(*messages: Any, then: BaseException | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


def start(status: int, content_type: bytes) -> Any:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]}


def body(content: bytes, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": content, "more_body": more}


BACKPRESSURE = BackPressureError(16, 16).message
UNAVAILABLE = DeploymentUnavailableError("Deployment(name='ingress')").message


@pytest.mark.parametrize(
    ("text", "status", "expected", "code"),
    [
        ("Request abc timed out after 3.0s.", 408, 504, "deadline_exceeded"),
        ("Path '/graph' not found. Ping http://.../-/routes for available routes.", 404, 503, "model_unavailable"),
        (BACKPRESSURE, 503, 503, "overloaded"),
        (BACKPRESSURE, 429, 503, "overloaded"),
        (UNAVAILABLE, 503, 503, "model_unavailable"),
        ("Internal Server Error", 500, 500, "internal"),
    ],
)
async def test_serves_own_errors_become_problems(text: str, status: int, expected: int, code: str) -> None:
    answer = await Answer().of(serve(text, status))
    assert answer.status == expected
    problem = answer.problem()
    assert problem["code"] == code
    assert problem["stage"] is None
    assert text not in problem["detail"]
    assert ("retry-after" in answer.headers) == (expected == 503)


async def test_an_error_without_a_media_type_is_serves_too() -> None:
    answer = await Answer().of(sends({"type": "http.response.start", "status": 503, "headers": []}, body(BACKPRESSURE.encode())))
    assert answer.problem()["code"] == "overloaded"


async def test_a_replica_that_dies_before_its_answer_is_unavailable() -> None:
    """Serve's proxy then returns without an answer, which uvicorn turns into a bare 500."""
    answer = await Answer().of(sends())
    assert answer.status == 503
    assert answer.problem()["code"] == "model_unavailable"
    assert int(answer.headers["retry-after"]) > 0


async def test_a_replica_that_dies_between_its_headers_and_its_body_is_unavailable() -> None:
    answer = await Answer().of(sends(start(200, b"image/png")))
    assert answer.problem()["code"] == "model_unavailable"


@pytest.mark.parametrize("id", [b"abc", None, b"not well formed", b"x" * 65])
@pytest.mark.parametrize("app", [sends(), serve(BACKPRESSURE, 503), sends(then=KeyError("abc"))], ids=["none", "own", "raises"])
async def test_the_answer_the_problem_and_serve_have_the_same_id(app: Any, id: bytes | None) -> None:
    seen: list[str] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(value.decode() for name, value in scope["headers"] if name == b"x-request-id")
        await app(scope, receive, send)

    answer = await Answer().of(watched, id=id)
    assert seen == [answer.problem()["request_id"]]
    assert (seen == ["abc"]) == (id == b"abc")


async def test_a_defect_of_serves_proxy_is_internal_and_logged_and_shows_no_reason(caplog: pytest.LogCaptureFixture) -> None:
    answer = await Answer().of(sends(then=KeyError("secret")))
    assert answer.status == 500
    assert answer.problem()["code"] == "internal"
    assert b"secret" not in answer.body
    (record,) = (record for record in caplog.records if record.name == "ray.serve")
    assert "abc" in record.getMessage()
    assert "secret" in caplog.text


async def test_a_defect_after_the_answer_has_started_cuts_it() -> None:
    answer = Answer()
    with pytest.raises(KeyError):
        await answer.of(sends(start(200, b"text/event-stream"), body(b"data: 1", more=True), then=KeyError("x")))
    assert answer.body == b"data: 1"


async def test_a_client_that_cannot_be_written_to_gets_no_second_answer() -> None:
    written: list[Any] = []

    async def broken(message: Any) -> None:
        written.append(message)
        raise ConnectionResetError

    app = Problems(sends(start(200, b"image/png"), body(b"picture")))
    with pytest.raises(ConnectionResetError):
        await app({"type": "http", "path": "/graph", "headers": []}, None, broken)
    assert written == [start(200, b"image/png")]


async def test_a_cancelled_proxy_answers_nothing() -> None:
    answer = Answer()
    with pytest.raises(asyncio.CancelledError):
        await answer.of(sends(then=asyncio.CancelledError()))
    assert answer.messages == []


@pytest.mark.parametrize(
    ("status", "content_type"),
    [
        (200, b"image/png"),
        (200, b"application/json"),
        (200, b"text/plain; charset=utf-8"),
        (503, b"application/problem+json"),
        (500, b"application/problem+json"),
        (422, b"application/problem+json"),
        (503, b"application/json"),
        (405, b"text/plain; charset=utf-8"),
    ],
)
async def test_the_applications_own_answers_are_forwarded_unchanged(status: int, content_type: bytes) -> None:
    messages = [start(status, content_type), body(b"first", more=True), body(b"second")]
    answer = await Answer().of(sends(*messages), bare=True)
    assert answer.messages == messages
    assert all(got is sent for got, sent in zip(answer.messages, messages, strict=True))


async def test_each_chunk_of_a_stream_is_sent_before_the_next_is_made() -> None:
    answer = Answer()
    received: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, b"text/event-stream"))
        for n in range(3):
            await send(body(b"data: %d" % n, more=True))
            received.append(len(answer.messages))
        await send(body(b""))

    await answer.of(app)
    assert received == [2, 3, 4]


@pytest.mark.parametrize("path", ["/-/healthz", "/-/routes"])
async def test_serves_own_endpoints_keep_their_answers(path: str) -> None:
    answer = await Answer().of(serve("This node is being drained.", 503), path=path)
    assert (answer.status, answer.body) == (503, b"This node is being drained.")


async def test_a_websocket_is_forwarded() -> None:
    answer = Answer()
    await Problems(sends({"type": "websocket.close"}))({"type": "websocket", "path": "/", "headers": []}, None, answer.send)
    assert answer.messages == [{"type": "websocket.close"}]


def test_serve_puts_the_middleware_around_its_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    outer = _apply_middlewares(app, middlewares())
    assert isinstance(outer, Headers)
    assert isinstance(outer._app, Problems)
    assert isinstance(outer._app._app, ProxyExpectMiddleware)
    assert isinstance(outer._app._app._app, ProxyBodyMiddleware)
    assert isinstance(outer._app._app._app._app, RequestIdMiddleware)


@pytest.mark.parametrize("configured", [None, "", "somebody.else:middlewares"])
def test_without_the_middleware_the_ingress_warns_in_one_line(configured: str | None, caplog: pytest.LogCaptureFixture) -> None:
    warn_if_absent(configured)
    (record,) = caplog.records
    assert "graphs/ray.env" in record.message
    assert "\n" not in record.message


def test_with_the_middleware_there_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    lines = (ROOT / "graphs" / "ray.env").read_text().splitlines()
    (configured,) = (line.split("=")[1] for line in lines if line.startswith("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH="))
    warn_if_absent(configured)
    assert caplog.records == []
