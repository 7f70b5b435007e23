"""An ASGI app under a real uvicorn, in a thread of this process."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from testing.service import free_port


@contextlib.contextmanager
def serving(app: Any, **config: Any) -> Iterator[str]:
    """Serve the app until the context ends, and yield its URL. `config`: options of uvicorn."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, **{"log_level": "warning", "lifespan": "off"} | config))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
