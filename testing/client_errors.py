"""Requests that are their clients' errors, as bytes on a socket: none may leave a traceback in a log."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

BOUNDARY = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nsound\r\n'
JSON = "application/json"
IMAGES = "/v1/images/generations"


@dataclass(frozen=True)
class ClientError:
    """`content`: all that is sent. `status`: of the answer; None where the client leaves without one, or the connection ends."""

    name: str
    content: bytes
    status: int | None

    @property
    def leaves_in_body(self) -> bool:
        return self.status is None and b"\r\n\r\n" in self.content

    def send(self, port: int) -> int | None:
        """Send it, and return the answer's status, or None where there is none."""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(self.content)
            if self.status is None:
                connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                received = b""
                while b"\r\n" not in received and (more := connection.recv(4096)):
                    received += more
                return int(received.split()[1]) if received else None
        return None


def request(
    target: str | bytes = "/graph",
    body: bytes | None = None,
    kind: str | bytes = BOUNDARY,
    method: str = "POST",
    length: str | None = "",
    **headers: str | bytes,
) -> bytes:
    """The bytes of a request. `length`: its Content-Length, by default the true one; None without one. `headers`: with _ for -."""
    lines = {"Host": "127.0.0.1", "Connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        lines["Content-Type"] = kind
        if length is not None:
            lines["Content-Length"] = length or str(len(body))
    head = [method.encode() + b" " + _bytes(target) + b" HTTP/1.1"]
    head += [name.encode() + b": " + _bytes(value) for name, value in lines.items()]
    return b"\r\n".join([*head, b"", b""]) + (body or b"")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def chunked(body: bytes) -> bytes:
    return request(body=body, length=None, Transfer_Encoding="chunked")


def client_errors() -> Iterator[ClientError]:
    form = PART + b"--x--\r\n"
    for name, body in {
        "no boundary in it": b"sound",
        "cut off": PART,
        "no part": b"--x--\r\n",
        "no name": b"--x\r\n\r\nsound\r\n--x--\r\n",
        "a broken header": b"--x\r\nContent Disposition\r\n\r\n",
        "a name that is not UTF-8": b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\r\n--x--\r\n',
        "a field that is not UTF-8": b'--x\r\nContent-Disposition: form-data; name="seed"\r\n\r\n\xff\r\n--x--\r\n',
        "two files": PART + form,
    }.items():
        yield ClientError(f"multipart: {name}", request(body=body), 400)
    for name, kind in {
        "no boundary": "multipart/form-data",
        "an empty boundary": "multipart/form-data; boundary=",
        "a long boundary": "multipart/form-data; boundary=" + "x" * 5000,
        "a boundary that is not ASCII": b"multipart/form-data; boundary=\xff\xfe",
    }.items():
        yield ClientError(f"multipart: {name}", request(body=form, kind=kind), 400)
    for name, body in {
        "no JSON": b"{",
        "not UTF-8": b'{"prompt": "\xff"}',
        "nested": b"[" * 60_000,
        "a nested parameter": b'{"prompt": ' + b"[" * 60_000,
        "a lone surrogate": rb'{"prompt": "\ud800"}',
        "a number without end": b'{"prompt": "x", "seed": ' + b"9" * 60_000 + b"}",
        "not a number": b'{"prompt": "x", "guidance_scale": NaN}',
        "a name that is a lone surrogate": rb'{"prompt": "x", "\udfff": 1}',
        "empty": b"",
        "no object": b"3",
    }.items():
        yield ClientError(f"JSON: {name}", request(IMAGES, body, JSON), 422)
    for name, target, status in (
        ("a path that is not UTF-8", b"/gr\xffph", 400),
        ("an escaped path that is not UTF-8", "/v1/models/%ff", 404),
        ("a path with a zero byte", "/v1/models/%00", 404),
        ("a path of two slashes", "//graph", 404),
        ("no path", "graph", 400),
        ("a path of 60 KB", "/" + "x" * 60_000, 404),
    ):
        yield ClientError(f"target: {name}", request(target, method="GET"), status)
    yield ClientError("target: a query that is not UTF-8", request("/graph?seed=%ff&%ff=%fe", form), 422)
    yield ClientError("target: a query of broken escapes", request("/graph?seed=%zz&%", form), 422)
    for header in ("X_Timeout_Ms", "X_Request_Id", "Authorization", "Content_Encoding", "Accept", "Cookie", "Sec_Fetch_Site"):
        status = 415 if header == "Content_Encoding" else 422
        yield ClientError(f"header: {header} that is not UTF-8", request("/graph?seed=x", form, **{header: b"\xff\xfe"}), status)
    yield ClientError("header: Content-Type that is not UTF-8", request(body=form, kind=b"\xff\xfe"), 415)
    yield ClientError("header: Host that is not UTF-8", request(body=form, Host=b"\xff"), 403)
    yield ClientError("header: Host without its bracket", request("/nothing", Host="[::1", method="GET"), 404)
    yield ClientError("header: Host that is no address", request("/graph?seed=x", form, Host="127.0.0.1:x"), 422)
    for origin in (b"\xff", b"http://[", b"http://[::1", b"http://[x]", b"://", b"null"):
        yield ClientError(f"header: Origin {origin!r}", request(body=form, Origin=origin), 403)
    yield ClientError("header: an Accept without end", request(body=form, Accept=";" * 1000), 406)
    yield ClientError("header: a line without a colon", b"POST /graph HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", 400)
    for length in ("x", "-1", "1, 1", "9" * 30, "0x5"):
        yield ClientError(f"Content-Length: {length[:5]}", request(body=form, length=length), 400)
    yield ClientError("Content-Length: beyond the bound", request(body=form, length="9" * 18), 413)
    yield ClientError(
        "Content-Length: two",
        request(body=form, Content_Length="5", length="6").replace(
            b"Content-Length: 6", b"Content-Length: 6\r\nContent-Length: 5"
        ),
        400,
    )
    yield ClientError("Content-Length: and chunks", request(body=b"0\r\n\r\n", Transfer_Encoding="chunked"), 400)
    for name, body in {
        "no size": b"\r\n\r\n",
        "a size that is no number": b"zz\r\nsound\r\n0\r\n\r\n",
        "a size too large": b"f" * 20 + b"\r\n",
        "a chunk too long": b"2\r\nsound\r\n0\r\n\r\n",
    }.items():
        yield ClientError(f"chunks: {name}", chunked(body), 400)
    yield ClientError("chunks: of no coding", request(body=form, length=None, Transfer_Encoding="x"), 400)
    for name, content in {
        "a form": request(body=PART, length="1000"),
        "a raw body": request(body=b"sound", kind="audio/wav", length="1000"),
        "JSON": request(IMAGES, b'{"prompt', JSON, length="1000"),
        "chunks": chunked(b"%x\r\n%s\r\n" % (len(PART), PART)),
        "a chunk": chunked(b"%x\r\n%s" % (len(PART), PART[:5])),
        "the headers": b"POST /graph HTTP/1.1\r\nHost: a",
        "the request": b"",
    }.items():
        yield ClientError(f"client that leaves in {name}", content, None)
    yield ClientError("deadline: of a header", request(body=form, X_Timeout_Ms="1"), 504)
    yield ClientError("deadline: of a parameter", request("/graph?timeout_ms=1", form), 504)
    socket_headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    for target in ("/graph", "/nothing", "/"):
        yield ClientError(f"WebSocket: {target}", request(target, method="GET", **socket_headers), 403)
    yield ClientError("WebSocket: of no version", request(method="GET", Connection="Upgrade", Upgrade="websocket"), 400)
    for method in ("TRACE", "OPTIONS", "DELETE"):
        yield ClientError(f"method: {method}", request(method=method), 405)
    yield ClientError("method: none that exists", request(method="BREW"), 400)
    yield ClientError("protocol: HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400)
    yield ClientError("protocol: TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400)
    yield ClientError("protocol: none", b"\r\n\x00\xff\r\n\r\n", 400)


CLIENT_ERRORS = list(client_errors())
