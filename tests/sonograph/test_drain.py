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


@pytest.fixture
def raylets(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start a process of this name below this one, and one below another process whose number comes with it."""
    program = tmp_path / "raylet"
    program.symlink_to(str(shutil.which("sleep")))
    mine = subprocess.Popen([program, "300"])
    other = subprocess.Popen(["sh", "-c", f"{program} 300 & echo $!; wait"], stdout=subprocess.PIPE)
    assert other.stdout
    theirs = int(other.stdout.readline())
    yield mine, theirs
    mine.kill()
    mine.wait()
    os.kill(theirs, 9)  # it still runs
    other.wait()
    other.stdout.close()


def run_hook(head: int) -> None:
    """Run the hook as Kubernetes does: until it has ended and its output has closed."""
    command = [
        Path(sys.executable).with_name("sonograph"),
        "drain",
        f"127.0.0.1:{head}",
        "--settle-s",
        "0",
        "--port",
        str(free_port()),
    ]
    ran = subprocess.run([*command, "--parent", str(os.getpid())], capture_output=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


def test_without_a_head_the_pods_own_raylet_ends(raylets: tuple["subprocess.Popen[bytes]", int]) -> None:
    mine, _ = raylets
    run_hook(free_port())
    assert mine.wait(10) == -9


def test_while_the_head_answers_ray_drains_and_once_it_is_gone_the_raylet_ends(
    raylets: tuple["subprocess.Popen[bytes]", int],
) -> None:
    mine, _ = raylets
    with socket.create_server(("127.0.0.1", 0)) as head:
        run_hook(head.getsockname()[1])
        with pytest.raises(subprocess.TimeoutExpired):
            mine.wait(5)
    assert mine.wait(60) == -9
