"""Bodies that come with their request, with Serve's own classes: what its replica fetches from the proxy, and what the app receives."""

import asyncio
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from ray.serve._private.common import StreamingHTTPRequest
from ray.serve._private.http_util import ASGIReceiveProxy

from graphs.serve import bodies
from graphs.serve.bodies import BODY

DISCONNECT = {"type": "http.disconnect"}


def part(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    original = StreamingHTTPRequest.receive_asgi_messages
    bodies.patch()
    bodies.patch()
    yield
    StreamingHTTPRequest.receive_asgi_messages = original


class Proxy:
    """Proxy that answers each call of a replica with the next batch of messages, or raises it; then it waits."""

    def __init__(self, *batches: Any) -> None:
        self._batches = list(batches)
        self.calls = 0

    async def messages(self, metadata: Any) -> bytes:
        self.calls += 1
        if not self._batches:
            await asyncio.get_running_loop().create_future()
        batch = self._batches.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return pickle.dumps(batch)

    def request(self, **scope: Any) -> tuple[dict[str, Any], ASGIReceiveProxy]:
        """Return the app's scope and `receive`, as Serve's replica makes them of a request that has been sent to it."""
        request = pickle.loads(pickle.dumps(StreamingHTTPRequest({"type": "http", **scope}, proxy_actor_name="proxy")))
        request._receive_asgi_messages = self.messages
        return request.asgi_scope, ASGIReceiveProxy(request.asgi_scope, None, request.receive_asgi_messages)


async def received(receive: ASGIReceiveProxy, number: int) -> list[Any]:
    """Return the first messages; the rest of the fetching is cancelled, as at a request's end."""
    fetching = asyncio.create_task(receive.fetch_until_disconnect())
    found = [await asyncio.wait_for(receive(), 5) for _ in range(number)]
    await asyncio.sleep(0.01)
    fetching.cancel()
    await asyncio.wait({fetching})
    return found


async def test_a_body_that_came_with_its_request_needs_no_call_of_the_proxy() -> None:
    proxy = Proxy()
    scope, receive = proxy.request(**{BODY: b"abc"})
    assert BODY not in scope, "the app would see it"
    assert await received(receive, 1) == [part(b"abc")]
    assert proxy.calls == 0


async def test_another_body_is_fetched_until_it_ends_and_not_beyond() -> None:
    proxy = Proxy([part(b"a", more=True), part(b"b", more=True)], [part(b"c")])
    _, receive = proxy.request()
    assert await received(receive, 3) == [part(b"a", more=True), part(b"b", more=True), part(b"c")]
    assert proxy.calls == 2


@pytest.mark.parametrize("last", [[DISCONNECT], KeyError("the request is no longer active")])
async def test_a_client_that_leaves_within_the_body_disconnects(last: Any) -> None:
    proxy = Proxy([part(b"a", more=True)], last)
    _, receive = proxy.request()
    assert await received(receive, 3) == [part(b"a", more=True), DISCONNECT, DISCONNECT]


async def test_an_error_of_the_proxy_is_raised() -> None:
    _, receive = Proxy(RuntimeError("the proxy has died")).request()
    with pytest.raises(RuntimeError, match="has died"):
        await received(receive, 1)


async def test_after_the_body_receive_waits() -> None:
    _, receive = Proxy().request(**{BODY: b""})
    assert await received(receive, 1) == [part(b"")]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(receive(), 0.05)


async def test_a_websocket_is_fetched_to_its_end() -> None:
    proxy = Proxy([{"type": "websocket.connect"}], [{"type": "websocket.receive", "text": "a"}])
    _, receive = proxy.request(type="websocket")
    assert len(await received(receive, 2)) == 2
    assert proxy.calls == 3
