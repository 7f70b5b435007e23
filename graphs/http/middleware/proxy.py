"""Middleware of Serve's HTTP proxy, by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (graphs/ray.env): around all that Serve does.

Serve takes any X-Request-ID, logs it and answers with it; clients can choose its timeout, and switch off its cancellation on disconnect.
Its own errors are plain text; where a replica dies during a request it sends nothing at all, and uvicorn answers 500.
"""

import logging
import uuid
from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import DeadlineExceeded, DeploymentError, ModelUnavailable, Overloaded
from graphs.http.errors import HeadersTooLarge
from graphs.http.middleware import upgrade
from graphs.http.middleware.body import ProxyBodyMiddleware
from graphs.http.middleware.expect import ProxyExpectMiddleware
from graphs.http.problems import problem
from graphs.http.request_id import FORMAT, HEADER
from graphs.serve.status import PROXY_CALLBACK

log = logging.getLogger("ray.serve")
FOR_SERVE = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-session-id", b"serve-multiplexed-model-id")
"""Headers that Serve obeys from any client, with - or _ (ray/serve/_private/constants.py, 2.60). A value that is not UTF-8 fails."""
ID = HEADER.lower().encode()


MAX_HEADER_BYTES = 32 * 1024
"""Of all names and values. A cookie has 4 KiB at most, and no header that the service reads is longer than MAX_ACCEPT_BYTES."""
MAX_ACCEPT_BYTES = 1024


class Headers:
    """Middleware that drops the headers for Serve, and an X-Request-ID that is malformed or repeated: a new one is made then.

    Headers beyond their bounds are refused with 431.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            ids = [value for name, value in scope["headers"] if name == ID]
            well_formed = len(ids) == 1 and FORMAT.fullmatch(ids[0].decode("latin-1"))
            if scope["type"] == "http" and (too_large := _too_large(scope["headers"])):
                id = ids[0].decode() if well_formed else str(uuid.uuid4())
                response = problem(too_large, id, scope["path"])
                response.headers[HEADER] = id
                await response(scope, receive, send)
                return
            dropped = FOR_SERVE if well_formed else (*FOR_SERVE, ID)
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].replace(b"_", b"-") not in dropped]}
        await self._app(scope, receive, send)


def _too_large(headers: Iterable[tuple[bytes, bytes]]) -> HeadersTooLarge | None:
    total = accept = 0
    for name, value in headers:
        total += len(name) + len(value)
        accept += len(value) if name == b"accept" else 0
    if total > MAX_HEADER_BYTES:
        return HeadersTooLarge(f"the headers have {total} bytes, more than {MAX_HEADER_BYTES}: send fewer, or shorter cookies")
    if accept > MAX_ACCEPT_BYTES:
        return HeadersTooLarge(f"Accept has {accept} bytes, more than {MAX_ACCEPT_BYTES}: name fewer media types")
    return None


class Problems:
    """Middleware that answers with problem details where Serve itself fails, or does not answer at all, before a response begins.

    The application's responses pass unchanged: only the message that starts one waits, for the first message of the body.
    Serve's own endpoints below `/-/` keep their responses.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self._app(scope, receive, send)
            return
        ids = [value for name, value in scope["headers"] if name == ID]
        id = ids[0] if ids else str(uuid.uuid4()).encode()
        state = _Response(send)
        try:
            # With an id in the headers Serve makes none: its log and its response carry this one.
            await self._app({**scope, "headers": [*scope["headers"], *([] if ids else [(ID, id)])]}, receive, state.send)
        except Exception as error:
            if state.begun:
                raise
            log.exception("request %s failed in Serve's proxy", id.decode())
            state.failed = DeploymentError(f"the service failed on this request: its log tells why under the id {id.decode()}")
            state.failed.__cause__ = error
        if state.begun:
            return
        gone = ModelUnavailable("the replica that took the request is gone, and a new one is being started: try again shortly")
        response = problem(state.failed or gone, id.decode(), scope["path"])
        response.headers[HEADER] = id.decode()
        await response(scope, receive, send)


class _Response:
    """The state of one response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self.begun = False
        self.failed: DeploymentError | None = None
        """The error that stands for Serve's own, which was not sent."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None and not self.begun:
            self.failed = self.failed or _failure(self._start, message)
            if self.failed:
                return
            self.begun = True
            await self._send(self._start)
        await self._send(message)


def _failure(start: Message, body: Message) -> DeploymentError | None:
    """The error for one of Serve's, which have plain text or no type at all; the application sends no such response."""
    content_type = dict(start.get("headers", ())).get(b"content-type", b"text/plain")
    if not content_type.startswith(b"text/plain"):
        return None
    match start["status"]:
        case 404:  # the application takes every path, so it is absent
            return ModelUnavailable("the service is being started or ended: try again shortly")
        case 408:
            return DeadlineExceeded("the request did not end within the time that Serve gives it (request_timeout_s)")
        case 429 | 503 if b"backpressure" in body.get("body", b""):
            return Overloaded("more requests wait than the service takes: try again shortly")
        case 429 | 503:
            return ModelUnavailable("the service is being started, or could not be started: try again shortly")
        case 500:
            return DeploymentError("the service failed on this request: its log tells why under the request's id")
    return None


def middlewares() -> list[Middleware]:
    """The middleware, innermost first. Serve calls this in the proxy's process before it starts uvicorn there."""
    upgrade.install()
    return [Middleware(ProxyBodyMiddleware), Middleware(ProxyExpectMiddleware), Middleware(Problems), Middleware(Headers)]


def warn_if_absent(configured: str | None = PROXY_CALLBACK) -> None:
    """Log once in each ingress replica; `configured`: the variable as its process was started with it."""
    if configured != f"{__name__}:{middlewares.__name__}":
        log.warning(
            "Ray's variables of graphs/ray.env are not set: clients can switch timeouts off, and errors of Serve's proxy are plain "
            "text; set them as `make serve` does: set -a; . graphs/ray.env"
        )
