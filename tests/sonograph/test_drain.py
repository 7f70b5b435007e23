"""The waits before a server and before a pod end."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sonograph.drain import wait_until_idle
from testing.service import free_port

pytestmark = pytest.mark.slow


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


def test_a_proxy_without_an_ingress_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        wait_until_idle(silent.getsockname()[1], 600, unanswered_s=1)


def test_a_server_without_a_request_count_is_not_waited_for() -> None:
    calls: list[None] = []
    with health([b"[]"], lambda: calls.append(None)) as port:
        wait_until_idle(port, 60)
    assert len(calls) == 1


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process of this name and with a node's id, below this one."""
    program = tmp_path / "raylet"
    shutil.copy(sys.executable, program)
    command = [program, "-c", "import time; time.sleep(300)", f"--node_id={'0' * 56}"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONHOME": sys.base_prefix}) as process:
        yield process
        process.kill()


def hook(head: int) -> "subprocess.Popen[bytes]":
    command = [Path(sys.executable).with_name("sonograph"), "drain", f"127.0.0.1:{head}", "--settle-s", "0"]
    return subprocess.Popen([*command, "--port", str(free_port()), "--parent", str(os.getpid())])


@pytest.mark.usefixtures("raylet")
def test_without_a_head_a_pod_does_not_wait() -> None:
    with hook(free_port()) as drained:
        assert drained.wait(60) == 0


@pytest.mark.slow  # the head that accepts and says nothing is waited for: 45 s
def test_while_the_head_answers_its_raylet_is_left_to_ray(raylet: "subprocess.Popen[bytes]") -> None:
    with socket.create_server(("127.0.0.1", 0)) as head, hook(head.getsockname()[1]) as drained:
        with pytest.raises(subprocess.TimeoutExpired):
            drained.wait(8)
        raylet.kill()  # as Ray does with a node that has drained
        raylet.wait()
        assert drained.wait(90) == 0


def test_a_pod_whose_raylet_has_ended_does_not_wait() -> None:
    with hook(free_port()) as drained:
        assert drained.wait(60) == 0
