"""Slow and idle clients lock nobody out: the whole app under a real uvicorn, with the middleware of Serve's proxy."""

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray.serve._private.http_util import _apply_middlewares

from graphs.http.middleware import expect, proxy
from graphs.http.settings import HttpSettings
from testing.fakes import FakeService
from testing.server import listening
from testing.service import Service

pytestmark = pytest.mark.slow

ALICE, BOB = "alice-has-a-long-key", "bob-has-another-key"
IMAGE = {"prompt": "a red apple"}


class Eager:
    """Serve, as far as bodies go: it receives from the start, without a bound, and passes every message of the app on."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        messages = asyncio.Queue[Any]()

        async def fetch() -> None:
            while (message := await receive())["type"] != "http.disconnect":
                messages.put_nowait(message)
            messages.put_nowait(message)

        task = asyncio.create_task(fetch())
        await asyncio.sleep(0.02)  # the way to the replica
        try:
            await self._app(scope, messages.get, send)
        finally:
            task.cancel()


@contextlib.contextmanager
def serving(**settings: Any) -> Iterator[tuple[int, FakeService]]:
    service = FakeService(HttpSettings.model_validate(settings))
    with listening(_apply_middlewares(Eager(service.app()), proxy.middlewares())) as port:
        yield port, service


@contextlib.contextmanager
def idle(port: int, sockets: int, *lines: str, sent: bytes = b"x", until_there: bool = True) -> Iterator[list[socket.socket]]:
    """Connections with a request's headers and a part of its body."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(sockets):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall("\r\n".join([*lines, "Host: localhost", "", ""]).encode() + sent)
            opened.append(connection)
        if until_there:
            wait_for_requests(port, sockets)
        yield opened


def wait_for_requests(port: int, count: int) -> None:
    deadline_s = time.monotonic() + 30
    while httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=30).json()["requests"] != count:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def graph(port: int, **headers: str) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/graph", files={"file": b"sound"}, headers=headers, timeout=30)


SLOW = ("POST /graph HTTP/1.1", "Content-Type: audio/wav", "Content-Length: 1000")
CHUNKED = ("POST /v1/images/generations HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked")


def test_32_uploads_of_one_byte_and_11_in_chunks_lock_nobody_out() -> None:
    with serving() as (port, _):
        with idle(port, 32, *SLOW):
            assert graph(port).status_code == 200
        wait_for_requests(port, 0)
        with idle(port, 11, *CHUNKED, sent=b"1\r\n{\r\n"):
            assert graph(port).status_code == 200
            assert httpx.post(f"http://127.0.0.1:{port}/v1/images/generations", json=IMAGE, timeout=30).status_code == 200


def test_an_announcement_reserves_nothing() -> None:
    with serving(max_upload_bytes=1000, max_buffered_bytes=2000) as (port, _), idle(port, 20, *SLOW):
        assert graph(port).status_code == 200


def test_an_idle_upload_is_answered_with_its_reason_and_closed() -> None:
    with serving(body_idle_timeout_s=0.3) as (port, _), idle(port, 2, *SLOW, until_there=False) as connections:
        for connection in connections:
            head, body = connection.makefile("rb").read().split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in head.lower()
            assert json.loads(body)["code"] == "body_too_slow"
        wait_for_requests(port, 0)


def test_a_newcomer_takes_the_place_of_an_idle_upload_and_the_others_stay() -> None:
    with serving(max_concurrent_uploads=3, body_idle_timeout_s=10) as (port, _), idle(port, 3, *SLOW) as connections:
        assert graph(port).json()["code"] == "overloaded"
        time.sleep(1.1)  # a tenth of the idle timeout
        assert graph(port).status_code == 200
        wait_for_requests(port, 2)
        assert connections[0].recv(65_536).startswith(b"HTTP/1.1 408 ")


def test_a_key_above_its_share_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"alice {ALICE}\nbob {BOB}\n")
    settings = {"api_keys_file": tmp_path / "keys", "key_max_concurrent_requests": 2}
    with serving(**settings) as (port, _), idle(port, 2, *SLOW, f"Authorization: Bearer {ALICE}"):
        refused = graph(port, Authorization=f"Bearer {ALICE}")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert graph(port, Authorization=f"Bearer {BOB}").status_code == 200


def test_bytes_that_no_longer_fit_are_refused_as_they_come() -> None:
    with serving(max_upload_bytes=1000, max_buffered_bytes=1000) as (port, service):
        line = SLOW[:2]
        with idle(port, 1, *line, "Content-Length: 1000", sent=bytes(600)) as (first,):
            second = httpx.post(
                f"http://127.0.0.1:{port}/graph", content=iter([bytes(300), bytes(300)]), headers={"Content-Type": "audio/wav"}
            )
            assert (second.status_code, second.json()["code"]) == (503, "overloaded")
            first.sendall(bytes(400))
            assert first.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert service.recordings == [bytes(1000)]


@pytest.mark.parametrize(("key", "first"), [(ALICE, b"HTTP/1.1 100 Continue\r\n\r\n"), (BOB, b"HTTP/1.1 401 ")])
def test_a_client_is_told_to_send_its_body_only_where_the_app_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, first: bytes
) -> None:
    monkeypatch.setattr(expect, "LONGEST_WAIT_S", 60)
    (tmp_path / "keys").write_text(f"alice {ALICE}\n")
    lines = *SLOW, "Host: localhost", "Expect: 100-continue", f"Authorization: Bearer {key}", "", ""
    with serving(api_keys_file=tmp_path / "keys") as (port, service):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall("\r\n".join(lines).encode())
            assert connection.recv(65_536).startswith(first)
            if key == ALICE:
                connection.sendall(bytes(1000))
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert len(service.recordings) == (key == ALICE)


@pytest.mark.parametrize("status", [200, 401])
def test_curl_sends_its_upload_only_where_the_app_reads_it(tmp_path: Path, status: int) -> None:
    (tmp_path / "keys").write_text(f"alice {ALICE}\n")
    (tmp_path / "sound").write_bytes(bytes(20_000_000))
    with serving(api_keys_file=tmp_path / "keys") as (port, _):
        command = [
            "curl",
            "-sS",
            "-F",
            f"file=@{tmp_path}/sound",
            f"http://127.0.0.1:{port}/graph",
            "-o",
            str(tmp_path / "answer"),
        ]
        key = ["-H", f"Authorization: Bearer {ALICE}"] if status == 200 else []
        counted = ["-w", "%{http_code} %{size_upload}"]
        printed = subprocess.run([*command, *key, *counted], capture_output=True, text=True, timeout=60, check=True).stdout
        code, sent = map(int, printed.split())
        assert code == status
        assert sent >= 20_000_000 if status == 200 else sent == 0


@pytest.mark.serve
def test_idle_sockets_lock_nobody_out_of_the_service(service: Service) -> None:
    """Through Serve's own bound, too. New ones come all the time, so that every place for uploads is taken however slow the machine is."""
    port = int(service.url.rsplit(":", 1)[1])
    with coming(port, per_s=40):
        wait_for_requests(port, HttpSettings().max_concurrent_uploads)
        time.sleep(1.5)  # some have fallen behind
        assert httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200
        for _ in range(3):
            answer = httpx.post(f"{service.url}/v1/images/generations", json=IMAGE | {"steps": 1}, timeout=60)
            assert answer.status_code == 200, answer.text
    wait_for_requests(port, 0)


@contextlib.contextmanager
def coming(port: int, per_s: float) -> Iterator[None]:
    """Connections with a request's headers and a part of its body, opened one after another until the end."""
    ended = threading.Event()

    def run() -> None:
        with contextlib.ExitStack() as stack:
            for number in itertools.count():
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                lines, sent = (CHUNKED, b"1\r\n{\r\n") if number % 4 == 0 else (SLOW, b"x")
                connection.sendall("\r\n".join([*lines, "Host: localhost", "", ""]).encode() + sent)
                if ended.wait(1 / per_s):
                    return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
