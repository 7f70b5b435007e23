"""Requests that offer to upgrade to HTTP/2: their body is read, and the connection's next request is parsed as such."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from graphs.http.middleware import proxy, upgrade
from testing import speech
from testing.server import listening
from testing.service import ROOT, Service

JAVA = shutil.which("java")
CAT = speech.HERE / "cat-slt.ogg"
HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAE\r\n"
LENGTH, CHUNKED = b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
PLAIN = b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
SMUGGLED = b"Content-Length: %d\r\n\r\n" % len(PLAIN) + PLAIN
CLOSE = b"GET /z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer = f"<{scope['method']} {scope['path']} {body.decode()}>".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(echo) as port:
        yield port


def requests_received(port: int, *parts: bytes) -> list[str]:
    """Send `parts` in order and a last request that closes; return the requests that reached the application, from its answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (*parts, CLOSE):
            connection.sendall(part)
            time.sleep(0.005)
        content = b""
        with contextlib.suppress(ConnectionResetError):
            content = b"".join(iter(lambda: connection.recv(65_536), b""))
    return [part.split(b">")[0].decode() for part in content.split(b"<")[1:]]


@pytest.mark.parametrize("start", [b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: ", b"GET /"])
def test_headers_that_never_end_are_answered_and_end_the_connection(port: int, start: bytes) -> None:
    """Also a line that never ends. The server keeps no more than the bound and what one read brings."""
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(start)
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                connection.sendall(b"x" * 65_536)
                sent += 65_536
        with contextlib.suppress(ConnectionError):
            answer = connection.recv(65_536)
    assert sent < 2000 * 65_536
    assert answer in (b"", upgrade.TOO_LARGE), "the answer, unless the system's reset overtook it"


@pytest.mark.parametrize("start", [b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: ", b"GET /"])
def test_a_client_that_reads_after_too_many_headers_sees_why(port: int, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(start + b"x" * 1_000_000)
        assert b"".join(iter(lambda: connection.recv(65_536), b"")) == upgrade.TOO_LARGE


def test_headers_that_end_within_the_bound_are_read(port: int) -> None:
    long = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 60_000 + b"\r\n\r\n"
    assert requests_received(port, *(long[at : at + 10_000] for at in range(0, len(long), 10_000)), long) == [
        "GET /a ",
        "GET /a ",
        "GET /z ",
    ]
    body = HEAD + b"Content-Length: 300000\r\n\r\n" + b"b" * 300_000
    assert [one[:9] for one in requests_received(port, *(body[at : at + 50_000] for at in range(0, len(body), 50_000)))] == [
        "POST /x b",
        "GET /z ",
    ]


@pytest.mark.parametrize(
    ("parts", "received"),
    [
        pytest.param([HEAD + LENGTH + b"hello"], ["POST /x hello"], id="in one packet"),
        pytest.param([HEAD + LENGTH, b"he", b"llo"], ["POST /x hello"], id="in three"),
        pytest.param([bytes([byte]) for byte in HEAD + LENGTH + b"hello"], ["POST /x hello"], id="byte by byte"),
        pytest.param([HEAD + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], ["POST /x hello"], id="in chunks"),
        pytest.param([HEAD + CHUNKED, b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"], ["POST /x hello"], id="in chunks and packets"),
        pytest.param([HEAD.replace(b"POST", b"GET") + b"\r\n"], ["GET /x "], id="without a body"),
        pytest.param([HEAD + SMUGGLED], [f"POST /x {PLAIN.decode()}"], id="whose body looks like another request"),
        pytest.param([HEAD + LENGTH + b"hello" + PLAIN], ["POST /x hello", "POST /y abc"], id="another right after it"),
        pytest.param([PLAIN + HEAD + LENGTH + b"hello"], ["POST /y abc", "POST /x hello"], id="another right before it"),
        pytest.param([(HEAD + LENGTH + b"hello") * 500], ["POST /x hello"] * 500, id="500 at once"),
        pytest.param([HEAD.replace(b"h2c", b"TLS/1.0") + LENGTH + b"hello"], ["POST /x hello"], id="to TLS"),
    ],
)
def test_the_body_of_a_request_that_offers_to_upgrade_is_read(port: int, parts: list[bytes], received: list[str]) -> None:
    assert requests_received(port, *parts) == [*received, "GET /z "]


def test_two_framings_of_one_body_are_refused(port: int) -> None:
    assert requests_received(port, HEAD + LENGTH.removesuffix(b"\r\n") + CHUNKED + b"hello") == []


def test_uvicorn_alone_loses_the_body() -> None:
    """The reason for graphs/http/middleware/upgrade.py: delete that module once this test fails."""
    with listening(echo, "httptools") as port:
        assert requests_received(port, HEAD + LENGTH, b"hello")[:1] == ["POST /x "]


def test_serves_proxy_uses_the_protocol_with_the_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "uvicorn.protocols.http.auto:AutoHTTPProtocol")
    proxy.middlewares()
    config = uvicorn.Config(echo)
    config.load()
    assert config.http_protocol_class is upgrade.IgnoringUpgrades


@pytest.mark.serve
def test_the_service_reads_the_body_of_an_upgrade(service: Service) -> None:
    body = b'{"prompt": "a red apple", "steps": 1}'
    head = HEAD.replace(b"/x", b"/v1/images/generations").replace(
        b"Host: a", b"Host: localhost"
    ) + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=60) as connection:
        connection.sendall(head + body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.serve
@pytest.mark.skipif(JAVA is None, reason="Java is not installed: apt install default-jdk-headless")
def test_the_default_client_of_a_jdk_is_answered(service: Service) -> None:
    command = [str(JAVA), str(ROOT / "testing" / "clients" / "DefaultClient.java"), service.url, str(CAT)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
    answers = [line.split(" ", 1) for line in printed.splitlines()]
    assert [status for status, _ in answers] == ["200"] * 4
    assert all("cat" in body.lower() for _, body in answers[:3])
    assert "b64_json" in answers[3][1]
