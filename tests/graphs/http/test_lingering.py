"""The end of a connection: refused uploads are thrown away until their client reads, and half-closed sockets are answered."""

import asyncio
import contextlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphs.http.middleware import lingering
from testing.server import Endless, listening, respond
from testing.service import ROOT, Service
from tests.graphs.http.test_upgrade import JAVA

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
REFUSAL = b"a refusal"
LOOPS = ["asyncio", "uvloop"]


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a POST unread, on /read after its first bytes; answer everything else, on /late after a while."""
    if scope["path"] == "/late":
        await receive()
        await asyncio.sleep(0.3)
    if scope["path"] == "/read":
        await receive()
    if scope["method"] == "POST":
        await respond(send, 413, REFUSAL)
    else:
        await respond(send, 200, b"fine")


@pytest.fixture(scope="module", params=LOOPS)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with listening(refusing, loop=request.param) as port:
        yield port


def rest(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("path", ["/", "/read"])
def test_urllib_sees_the_refusal_of_a_large_upload(port: int, path: str) -> None:
    """Connection: close, and a client that reads only once it has written everything."""
    for _ in range(5):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", bytes(25 * MIB), timeout=30)
        assert (refused.value.code, refused.value.read()) == (413, REFUSAL)


@pytest.mark.parametrize("path", ["/", "/read"])
def test_http_client_sees_the_refusal_and_keeps_its_connection(port: int, path: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(3):
        client.request("POST", path, bytes(25 * MIB))
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (413, REFUSAL)
        client.request("GET", "/")
        assert client.getresponse().read() == b"fine"
    client.close()


@pytest.mark.parametrize("options", [[], ["--http1.0"], ["-H", "Expect:"], ["-H", "Connection: close"]])
def test_curl_sees_the_refusal(port: int, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "upload").write_bytes(bytes(25 * MIB))
    command = [
        "curl",
        "-sS",
        *options,
        "-F",
        f"file=@{tmp_path}/upload",
        f"http://127.0.0.1:{port}/",
        "-w",
        " %{http_code} %{size_upload}",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    body, code, sent = printed.rsplit(" ", 2)
    assert (body, code) == (REFUSAL.decode(), "413")
    if not options:
        assert int(sent) < MIB, "it waited for 100 Continue, and sent the upload in vain"


@pytest.mark.skipif(JAVA is None, reason="Java is not installed: apt install default-jdk-headless")
def test_the_clients_of_a_jdk_see_the_refusal(port: int) -> None:
    command = [str(JAVA), str(ROOT / "testing" / "clients" / "Refused.java"), f"http://127.0.0.1:{port}/"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert printed.splitlines() == ["413 a refusal"] * 3


def test_a_rest_without_an_end_is_bounded_in_bytes(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_BYTES", MIB)
    for connection_header in (b"", b"Connection: close\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + connection_header + b"Content-Length: 2000000000\r\n\r\n")
            for _ in range(1000):
                connection.sendall(bytes(MIB))
            pytest.fail("a gigabyte was read")


@pytest.mark.parametrize("connection_header", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize(("bound", "sent"), [("LINGER_IDLE_S", 1), ("LINGER_S", 1000)])
def test_a_rest_that_does_not_come_is_bounded_in_time(
    port: int, monkeypatch: pytest.MonkeyPatch, bound: str, sent: int, connection_header: bytes
) -> None:
    monkeypatch.setattr(lingering, bound, 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + connection_header + b"Content-Length: 1000000\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
        for _ in range(sent):
            time.sleep(0.02)
            connection.sendall(b"x")
        assert sent == 1, "bytes came, and their time had no bound"
        rest(connection)


def test_a_kept_connection_outlives_the_bounds_of_the_rest(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_IDLE_S", 0.2)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", "/", bytes(MIB))
    assert client.getresponse().read() == REFUSAL
    time.sleep(0.5)
    client.request("GET", "/late")
    assert client.getresponse().read() == b"fine"
    client.close()


@pytest.mark.parametrize(
    "head", [b"GET /late HTTP/1.0\r\n\r\n", b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"]
)
@pytest.mark.parametrize("pause_s", [0.0, 0.1])
def test_a_client_that_shuts_down_its_writing_side_is_answered(port: int, head: bytes, pause_s: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head)
        time.sleep(pause_s)
        connection.shutdown(socket.SHUT_WR)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nfine")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("parts", [(b"hel", b"lo"), (b"hello",)])
@pytest.mark.parametrize("path", [b"/", b"/late"])
def test_a_half_closed_socket_with_a_body_is_answered(port: int, path: bytes, parts: tuple[bytes, ...]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        if path == b"/late":
            assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(REFUSAL)


def test_a_body_that_is_cut_ends_the_connection() -> None:
    app = Endless()
    with listening(app) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""


REQUESTS = [
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("end", ["close", "reset", "shutdown and close"])
@pytest.mark.parametrize("pause_s", [0.0, 0.1])
def test_a_client_that_leaves_cancels_its_request_at_once(loop: str, end: str, pause_s: float) -> None:
    for request in REQUESTS:
        app = Endless()
        with listening(app, loop=loop) as port:
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.sendall(request)
            assert app.started.wait(30)
            time.sleep(pause_s)
            if end == "shutdown and close":
                connection.shutdown(socket.SHUT_WR)
                time.sleep(pause_s)
            if end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            assert app.cancelled.wait(5), "the work goes on although nobody waits for it"


@pytest.mark.parametrize("program", ["curl", "python"])
def test_a_program_that_is_ended_cancels_its_request(program: str) -> None:
    app = Endless()
    with listening(app) as port:
        url = f"http://127.0.0.1:{port}/"
        read = f"import urllib.request; urllib.request.urlopen('{url}')"
        process = subprocess.Popen(["curl", "-sS", url] if program == "curl" else [sys.executable, "-c", read])
        assert app.started.wait(30)
        process.send_signal(2)
        process.wait(30)
        assert app.cancelled.wait(5)


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    scope["state"]["ended"].set()


def test_a_client_that_leaves_a_stream_ends_it_at_its_first_sign() -> None:
    """Nothing is written in between: the end of what the client sends is the only sign."""
    app = Endless()

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await streaming({**scope, "state": {"ended": app.cancelled}}, receive, send)

    with listening(whole) as port:
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sendall(REQUESTS[1])
        assert b"first" in connection.recv(65_536)
        connection.close()
        assert app.cancelled.wait(5)


@pytest.mark.serve
def test_every_client_sees_the_services_refusal_of_a_large_upload(service: Service, tmp_path: Path) -> None:
    """The proxy's process owns the socket, and the ingress refuses."""
    upload = bytes(30 * MIB)
    request = urllib.request.Request(f"{service.url}/graph", upload, {"Content-Type": "audio/wav"})
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert (refused.value.code, json.load(refused.value)["code"]) == (413, "audio_too_large")
    client = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
    for _ in range(3):
        client.request("POST", "/graph", upload, {"Content-Type": "text/plain"})
        answer = client.getresponse()
        assert (answer.status, json.load(answer)["code"]) == (415, "unsupported_media_type")
    client.close()
    if JAVA is not None:
        command = [str(JAVA), str(ROOT / "testing" / "clients" / "Refused.java"), f"{service.url}/graph"]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        assert [line.split(" ", 1)[0] for line in printed.splitlines()] == ["413"] * 3
    (tmp_path / "upload").write_bytes(upload)
    command = ["curl", "-sS", "-F", f"file=@{tmp_path}/upload", f"{service.url}/graph", "-o", str(tmp_path / "answer")]
    counted = ["-w", "%{http_code} %{size_upload}"]
    printed = subprocess.run([*command, *counted], capture_output=True, text=True, timeout=60, check=True).stdout
    assert printed == "413 0", "it waited for 100 Continue, and sent the upload in vain"
    (tmp_path / "upload").write_bytes((ROOT / "graphs" / "samples" / "red-apple.wav").read_bytes() + bytes(2 * MIB))
    printed = subprocess.run(
        [*command, *counted, "-H", "Expect: 100-continue"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    status, sent = map(int, printed.split())
    assert status != 413
    assert sent > 2 * MIB


@pytest.mark.serve
def test_the_service_answers_a_half_closed_socket(service: Service) -> None:
    body = b'{"prompt": "a red apple", "steps": 2, "seed": 1}'
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=60) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        connection.shutdown(socket.SHUT_WR)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"b64_json" in answer
