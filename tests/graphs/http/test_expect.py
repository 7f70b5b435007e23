"""Expect: 100-continue: the proxy receives once the app reads, or after a while."""

import asyncio
from typing import Any

import pytest

from graphs.http.middleware import expect
from graphs.http.middleware.expect import READS, ExpectMiddleware, ProxyExpectMiddleware

SCOPE = {"type": "http", "headers": [(b"expect", b"100-continue")]}


async def run(app: Any, scope: Any = SCOPE) -> tuple[list[str], list[Any]]:
    """Return the order of what happened, and the messages that were sent."""
    happened: list[str] = []
    sent: list[Any] = []

    async def receive() -> Any:
        happened.append("received")
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        messages = asyncio.Queue[Any]()

        async def fetch() -> None:
            messages.put_nowait(await receive())

        task = asyncio.create_task(fetch())
        await asyncio.sleep(0.05)
        happened.append("app")
        await ExpectMiddleware(app)(scope, messages.get, send)
        task.cancel()

    await ProxyExpectMiddleware(serve)(scope, receive, send)
    return happened, sent


async def read(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start"})


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start"})


async def work(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.3)


async def test_a_body_is_received_once_the_app_reads_it() -> None:
    assert await run(read) == (["app", "received"], [{"type": "http.response.start"}])


async def test_a_refused_request_is_not_received() -> None:
    assert await run(refuse) == (["app"], [{"type": "http.response.start"}])


async def test_a_disconnect_is_noticed_although_the_app_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expect, "LONGEST_WAIT_S", 0.1)
    assert (await run(work))[0] == ["app", "received"]


@pytest.mark.parametrize("scope", [{"type": "http", "headers": []}, {"type": "http", "headers": [(b"expect", b"other")]}])
async def test_other_requests_are_received_at_once(scope: Any) -> None:
    assert await run(read, scope) == (["received", "app"], [{"type": "http.response.start"}])


async def test_the_app_tells_only_a_proxy_that_understands_it() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await ExpectMiddleware(read)(SCOPE, receive, send)
    assert sent == ["http.response.start"]
    await ExpectMiddleware(read)({**SCOPE, "extensions": {READS: {}}}, receive, send)
    assert sent[1:] == [READS, "http.response.start"]
