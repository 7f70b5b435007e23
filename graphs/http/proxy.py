"""Middleware of Serve's HTTP proxy, by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (graphs/ray.env): before Serve reads a header.

Serve takes any X-Request-ID, logs it and answers with it; and it lets clients choose its timeout, and switch off that leaving cancels.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from graphs.http.problems import REQUEST_ID

FOR_SERVE = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")
"""What Serve would obey, from anyone (ray/serve/_private/constants.py, 2.60)."""


class Headers:
    """Drops what is meant for Serve, and an X-Request-ID that is not well formed, or comes several times: Serve then makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            ids = [value for name, value in scope["headers"] if name == b"x-request-id"]
            well_formed = len(ids) == 1 and REQUEST_ID.fullmatch(ids[0].decode("latin-1"))
            dropped = FOR_SERVE if well_formed else (*FOR_SERVE, b"x-request-id")
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in dropped]}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    return [Middleware(Headers)]
