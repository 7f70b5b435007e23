"""Middleware of Serve's HTTP proxy, by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (graphs/ray.env): before Serve reads a header.

Serve takes any X-Request-ID, logs it and answers with it.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from graphs.http.problems import REQUEST_ID


class Headers:
    """Drops an X-Request-ID that is not well formed, and all of them where there are several: Serve then makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            ids = [value for name, value in scope["headers"] if name == b"x-request-id"]
            if ids and (len(ids) > 1 or not REQUEST_ID.fullmatch(ids[0].decode("latin-1"))):
                scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    return [Middleware(Headers)]
