"""The wait before a server ends."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sonograph.drain import wait_until_idle
from testing.service import free_port


@contextmanager
def health(answers: list[bytes], calls: Callable[[], None]) -> Iterator[int]:
    """A port on which /healthz returns these answers in turn, and then the last one again."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls()
            body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def requests(count: int) -> bytes:
    return json.dumps({"status": "ok", "requests": count}).encode()


def test_drain_waits_until_no_request_is_left() -> None:
    calls: list[None] = []
    with health([requests(2), requests(1), requests(0)], lambda: calls.append(None)) as port:
        wait_until_idle(port, 60)
    assert len(calls) == 3


def test_drain_waits_no_longer_than_its_limit() -> None:
    calls: list[None] = []
    with health([requests(1)], lambda: calls.append(None)) as port:
        wait_until_idle(port, 0.5)
    assert calls


def test_without_a_server_it_does_not_wait() -> None:
    wait_until_idle(free_port(), 60)


def test_a_server_without_a_request_count_is_not_waited_for() -> None:
    calls: list[None] = []
    with health([b"[]"], lambda: calls.append(None)) as port:
        wait_until_idle(port, 60)
    assert len(calls) == 1
