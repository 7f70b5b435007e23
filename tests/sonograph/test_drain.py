"""What waits before a server or a pod goes."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sonograph.drain import wait_until_idle
from testing.service import free_port


@contextmanager
def health(answers: list[bytes], asked: Callable[[], None]) -> Iterator[int]:
    """A port on which /healthz gives these answers in turn, and the last one from then on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked()
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


def test_it_waits_until_no_request_is_left() -> None:
    asked: list[None] = []
    with health([requests(2), requests(1), requests(0)], lambda: asked.append(None)) as port:
        wait_until_idle(port, 60)
    assert len(asked) == 3


def test_it_waits_no_longer_than_it_is_told() -> None:
    asked: list[None] = []
    with health([requests(1)], lambda: asked.append(None)) as port:
        wait_until_idle(port, 0.5)
    assert asked


def test_where_nothing_answers_nothing_is_waited_for() -> None:
    wait_until_idle(free_port(), 60)


def test_who_says_nothing_of_requests_is_not_waited_for() -> None:
    asked: list[None] = []
    with health([b"[]"], lambda: asked.append(None)) as port:
        wait_until_idle(port, 60)
    assert len(asked) == 1
