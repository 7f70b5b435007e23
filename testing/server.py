"""A real uvicorn around an ASGI app, in a thread, with the protocol of Serve's proxy."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from graphs.http.middleware import upgrade
from testing.service import free_port


@contextlib.contextmanager
def listening(app: Any, http: Any = upgrade.IgnoringUpgrades, loop: str = "auto") -> Iterator[int]:
    """Run uvicorn with this HTTP protocol and event loop (`asyncio` or `uvloop`), and yield its port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off", http=http, loop=loop))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        thread.join(30)


async def respond(send: Any, status: int, content: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response with a Content-Length."""
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": content})


class Endless:
    """App that works until its client disconnects, and notes it."""

    def __init__(self) -> None:
        self.started, self.cancelled = threading.Event(), threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.started.set()
        assert (await receive())["type"] == "http.disconnect"
        self.cancelled.set()
