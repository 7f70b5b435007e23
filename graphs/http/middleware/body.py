"""Short bodies in Serve's proxy: they are read before the request is handed on, and go with it."""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphs.serve.bodies import BODY

MAX_BYTES = 1024 * 1024
"""Longest body that goes with its request. gRPC's messages have a bound, and a body that is too long is better refused by the ingress."""
LONGEST_WAIT_S = 0.25
"""For the last byte of a body. The refusal of a request whose body arrives later than that comes as much later."""


def declared_bytes(content_length: str | None, max_upload_bytes: int) -> int:
    """Bytes that a body announces, at most the largest upload; 0 where it announces none."""
    declared = content_length or ""
    if not declared.isdecimal():
        return 0
    return min(int(declared), max_upload_bytes) if len(declared) <= 18 else max_upload_bytes  # int() refuses thousands of digits


class ProxyBodyMiddleware:
    """Middleware of the proxy that puts a body into the scope if it ends within the bounds; `receive` gives it nevertheless.

    A client that waits for 100 is left to the app: any `receive` would tell it to send.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_left(scope["headers"]):
            await self._app(scope, receive, send)
            return
        received: list[Message] = []
        parts: list[bytes] = []
        ended = False
        size_bytes = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT_S):
                while not ended and size_bytes <= MAX_BYTES:
                    message = await receive()
                    received.append(message)
                    if message["type"] != "http.request":
                        break
                    parts.append(message.get("body", b""))
                    size_bytes += len(parts[-1])
                    ended = not message.get("more_body", False)
        if ended and size_bytes <= MAX_BYTES:
            scope = {**scope, BODY: b"".join(parts)}
        received.reverse()

        async def receive_again() -> Message:
            return received.pop() if received else await receive()

        await self._app(scope, receive_again, send)


def _is_left(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"expect" or (name == b"content-length" and declared_bytes(value.decode("latin-1"), MAX_BYTES + 1) > MAX_BYTES)
        for name, value in headers
    )
