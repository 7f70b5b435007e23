"""Bodies on their way from Serve's proxy to the ingress: a short one comes with its request.

Serve's replica fetches a request's messages from the proxy by Ray's tasks (ray/serve/_private/common.py, StreamingHTTPRequest, 2.60):
one for each part of the body that has arrived, and one more, which is cancelled at the request's end, for a disconnect. Together they
are a third of what a request costs around the models. The last one is not needed: the proxy cancels the whole request when its client
leaves, and gRPC does when the proxy has died.
"""

import asyncio
import pickle
from collections.abc import Awaitable, Callable

from ray.serve._private.common import RequestMetadata, StreamingHTTPRequest

BODY = "sonograph.body"
"""Key of the scope that holds the whole body as bytes, where the proxy has waited for it (graphs/http/middleware/body.py)."""

_of_the_proxy: Callable[[StreamingHTTPRequest], Callable[[RequestMetadata], Awaitable[bytes]]]
_of_the_proxy = StreamingHTTPRequest.receive_asgi_messages.fget  # type: ignore[attr-defined]


def patch() -> None:
    """Let this replica take bodies that come with their request, and ask the proxy for others until they end, and not beyond."""
    StreamingHTTPRequest.receive_asgi_messages = property(_messages)  # type: ignore[assignment, method-assign]


def _messages(request: StreamingHTTPRequest) -> Callable[[RequestMetadata], Awaitable[bytes]]:
    scope = request.asgi_scope
    if scope["type"] != "http":
        return _of_the_proxy(request)
    body = scope.pop(BODY, None)
    return _Messages(_of_the_proxy(request)) if body is None else _Messages(None, body)


class _Messages:
    """The messages of one request, by call. After the body's last part a call waits: Serve cancels it at the request's end."""

    def __init__(self, fetch: Callable[[RequestMetadata], Awaitable[bytes]] | None, body: bytes = b"") -> None:
        self._fetch = fetch
        self._body = body
        self._ended = False

    async def __call__(self, metadata: RequestMetadata) -> bytes:
        """Return a pickled list of ASGI messages. Raises KeyError where the request has ended in the proxy, and Ray's errors."""
        if self._ended:
            await asyncio.get_running_loop().create_future()
        if self._fetch is None:
            self._ended = True
            return pickle.dumps([{"type": "http.request", "body": self._body, "more_body": False}])
        pickled = await self._fetch(metadata)
        self._ended = any(not message.get("more_body", False) for message in pickle.loads(pickled))
        return pickled
