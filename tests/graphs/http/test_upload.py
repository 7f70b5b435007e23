"""Recordings from bodies: multipart and raw, in chunks of any size, and never beyond the limit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from graphs.http.errors import AudioTooLarge, MalformedRequest, UnsupportedMediaType
from graphs.http.upload import FIELD_BYTES, OVERHEAD_BYTES, PARTS, Upload, receive

LIMIT_BYTES = 1000
RECORDING = bytes(range(256)) + b"\r\n--boundary-\r\n--boundar\r\n" + bytes(100)
"""Every byte value, and text that resembles a boundary."""
MULTIPART = "multipart/form-data; boundary=boundary"


class Body:
    """Request that counts the chunks read from its body."""

    def __init__(self, chunks: list[bytes], content_type: str | None = MULTIPART, **headers: str) -> None:
        all_headers = {**({"content-type": content_type} if content_type is not None else {}), **headers}
        encoded = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in all_headers.items()]
        self._chunks = chunks
        self.read = 0
        self.request = Request({"type": "http", "method": "POST", "headers": encoded}, self._receive)

    async def _receive(self) -> dict[str, object]:
        if self.read == len(self._chunks):
            return {"type": "http.request", "body": b"", "more_body": False}
        self.read += 1
        return {"type": "http.request", "body": self._chunks[self.read - 1], "more_body": True}


def part(name: str, content: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f'Content-Disposition: form-data; name="{name}"', *headers])
    return b"--boundary\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--boundary--\r\n"


FILE = part("file", RECORDING, "Content-Type: audio/wav")
WHOLE = form(part("steps", b"4"), FILE, part("prompt_prefix", "ein Gemälde von".encode()))
EXPECTED = Upload(RECORDING, [("steps", "4"), ("prompt_prefix", "ein Gemälde von")])


async def test_a_form_is_read_as_its_recording_and_its_fields_in_order() -> None:
    assert await receive(Body([WHOLE]).request, LIMIT_BYTES) == EXPECTED


async def test_a_form_may_be_split_anywhere() -> None:
    for offset in range(len(WHOLE) + 1):
        assert await receive(Body([WHOLE[:offset], WHOLE[offset:]]).request, LIMIT_BYTES) == EXPECTED


async def test_a_form_may_arrive_byte_by_byte() -> None:
    assert await receive(Body([bytes([byte]) for byte in WHOLE]).request, LIMIT_BYTES) == EXPECTED


@settings(max_examples=50)
@given(recording=st.binary(max_size=300), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=20))
async def test_any_bytes_in_any_chunks_arrive_as_they_were_sent(recording: bytes, sizes: list[int]) -> None:
    whole = form(part("seed", b"7"), part("file", recording))
    chunks, at = [], 0
    while at < len(whole):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(whole[at : at + size])
        at += size
    for content_type in (MULTIPART, 'multipart/form-data; charset=utf-8; boundary="boundary"'):
        upload = await receive(Body(chunks, content_type).request, LIMIT_BYTES)
        assert upload == Upload(recording, [("seed", "7")])
    raw = await receive(Body(chunks, "audio/wav").request, LIMIT_BYTES)
    assert raw == Upload(whole)


@settings(max_examples=100)
@given(body=st.binary(max_size=200), inside=st.booleans())
async def test_any_body_is_read_or_refused_with_a_known_error(body: bytes, inside: bool) -> None:
    whole = form(FILE, b"--boundary\r\n" + body) if inside else body
    try:
        await receive(Body([whole]).request, LIMIT_BYTES)
    except (MalformedRequest, AudioTooLarge):
        return


@pytest.mark.parametrize(
    ("content_type", "chunk"),
    [(MULTIPART, bytes(100)), ("audio/wav", bytes(100)), (None, bytes(100))],
    ids=["form", "raw", "without a type"],
)
async def test_a_body_is_refused_as_soon_as_it_exceeds_the_limit(content_type: str | None, chunk: bytes) -> None:
    start = [part("file", b"")[:-2]] if content_type == MULTIPART else []
    body = Body([*start, *[chunk] * 1000], content_type)
    with pytest.raises(AudioTooLarge, match=r"larger than 0\.000953674 MiB \(setting http\.max_upload_bytes\)"):
        await receive(body.request, LIMIT_BYTES)
    assert body.read == len(start) + 11


@pytest.mark.parametrize("start", [b"", WHOLE], ids=["before the first boundary", "after the last"])
async def test_bytes_outside_the_parts_count(start: bytes) -> None:
    body = Body([start, *[b"\r\n" * 5000] * 1000])
    with pytest.raises(AudioTooLarge):
        await receive(body.request, LIMIT_BYTES)
    assert body.read < 10


@pytest.mark.parametrize("content_type", [MULTIPART, "audio/wav"], ids=["form", "raw"])
async def test_a_body_that_declares_too_much_is_refused_before_it_is_read(content_type: str) -> None:
    body = Body([WHOLE], content_type, content_length=str(LIMIT_BYTES + OVERHEAD_BYTES + 1))
    with pytest.raises(AudioTooLarge):
        await receive(body.request, LIMIT_BYTES)
    assert body.read == 0


async def test_a_recording_of_exactly_the_limit_is_accepted() -> None:
    recording = bytes(LIMIT_BYTES)
    assert (await receive(Body([form(part("file", recording))]).request, LIMIT_BYTES)).recording == recording
    raw = Body([recording], "audio/wav", content_length=str(LIMIT_BYTES))
    assert (await receive(raw.request, LIMIT_BYTES)).recording == recording


@pytest.mark.parametrize("declared", ["", "-1", "1e9", "many", "٣"])
async def test_a_content_length_that_is_no_number_is_ignored(declared: str) -> None:
    body = Body([RECORDING], "audio/wav", content_length=declared.encode().decode("latin-1"))
    assert (await receive(body.request, LIMIT_BYTES)).recording == RECORDING


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        pytest.param(form(part("steps", b"4")), "has no field `file`", id="no file"),
        pytest.param(form(), "has no field `file`", id="nothing"),
        pytest.param(form(FILE, FILE), "two fields `file`", id="two files"),
        pytest.param(form(FILE, part("file", b"")), "two fields `file`", id="two files, one empty"),
        pytest.param(form(FILE, part("prompt_prefix", b"\xff\xfe")), "not UTF-8", id="a field that is no UTF-8"),
        pytest.param(form(FILE, b"--boundary\r\n\r\nx\r\n"), "has no name", id="a part without headers"),
        pytest.param(form(b'--boundary\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n'), "not UTF-8", id="name"),
        pytest.param(form(part("x", bytes(FIELD_BYTES + 1))), f"longer than {FIELD_BYTES} bytes", id="a long field"),
        pytest.param(form(*[part("x", b"")] * (PARTS + 1)), f"more than {PARTS} fields", id="too many parts"),
        pytest.param(b"", "ended before its last boundary", id="empty"),
        pytest.param(FILE, "ended before its last boundary", id="no end"),
        pytest.param(WHOLE[: len(WHOLE) // 2], "ended before its last boundary", id="half"),
        pytest.param(b"RIFF....WAVEfmt ", "is malformed: check its boundary", id="no multipart at all"),
        pytest.param(form(FILE).replace(b"boundary", b"another"), "is malformed: check its boundary", id="another boundary"),
    ],
)
async def test_a_malformed_form_is_refused_with_its_reason(whole: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest, match=message):
        await receive(Body([whole]).request, LIMIT_BYTES)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x"])
async def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedRequest, match="names no boundary"):
        await receive(Body([WHOLE], content_type).request, LIMIT_BYTES)


async def test_endless_headers_are_refused_early() -> None:
    start = b'--boundary\r\nContent-Disposition: form-data; name="file"\r\n'
    body = Body([start, *[b"X-Padding: " + bytes(65) * 990 + b"\r\n"] * 1000])
    with pytest.raises(MalformedRequest):
        await receive(body.request, LIMIT_BYTES)
    assert body.read < 10


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "x"])
async def test_an_encoded_body_is_refused_unread(encoding: str) -> None:
    body = Body([WHOLE], content_encoding=encoding)
    with pytest.raises(UnsupportedMediaType, match="Content-Encoding"):
        await receive(body.request, LIMIT_BYTES)
    assert body.read == 0
    await receive(Body([WHOLE], content_encoding="Identity").request, LIMIT_BYTES)


@pytest.mark.parametrize(
    "content_type",
    [
        "audio/wav",
        "audio/x-m4a",
        "AUDIO/MPEG",
        "audio/webm;codecs=opus",
        "video/webm",
        "Video/MP4",
        "application/octet-stream",
        None,
    ],
)
async def test_a_raw_body_of_an_audio_type_is_accepted(content_type: str | None) -> None:
    assert await receive(Body([RECORDING], content_type).request, LIMIT_BYTES) == Upload(RECORDING)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded",
        "image/png",
        "video/ogg",
        "multipart/mixed",
        "audio",
        "",
    ],
)
async def test_a_raw_body_of_another_type_is_refused_unread(content_type: str) -> None:
    body = Body([RECORDING], content_type)
    with pytest.raises(UnsupportedMediaType, match="audio/"):
        await receive(body.request, LIMIT_BYTES)
    assert body.read == 0
