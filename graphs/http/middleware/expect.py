"""Expect: 100-continue (RFC 9110, section 10.1.1) through Serve: the client is told to send its body only once the app reads it.

Serve's proxy and its replica receive from the start, and uvicorn answers the first `receive` with 100: a client that waits to learn
whether it is refused would send its whole body in vain.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

READS = "sonograph.http.reads"
"""Type of the message from the app to the proxy, which Serve passes on like any other. In `extensions` where the proxy takes it."""
LONGEST_WAIT_S = 1.0
"""Of the proxy, for an app that never reads its request's body; a client's disconnect is noticed after it. curl waits as long."""


class ProxyExpectMiddleware:
    """Middleware of the proxy, innermost: it holds back `receive` until the app reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (b"expect", b"100-continue") not in scope["headers"]:
            await self._app(scope, receive, send)
            return
        reads = asyncio.Event()

        async def receive_later() -> Message:
            try:
                async with asyncio.timeout(LONGEST_WAIT_S):
                    await reads.wait()
            except TimeoutError:
                reads.set()
            return await receive()

        async def send_others(message: Message) -> None:
            if message["type"] == READS:
                reads.set()
            else:
                await send(message)

        extensions = {**(scope.get("extensions") or {}), READS: {}}
        await self._app({**scope, "extensions": extensions}, receive_later, send_others)


class ExpectMiddleware:
    """Middleware of the app: it tells the proxy that the app reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if READS not in (scope.get("extensions") or {}):
            await self._app(scope, receive, send)
            return
        continued = False

        async def receive_after_continue() -> Message:
            nonlocal continued
            if not continued:
                continued = True
                await send({"type": READS})
            return await receive()

        await self._app(scope, receive_after_continue, send)
