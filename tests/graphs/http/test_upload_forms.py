"""Multipart bodies made of their grammar's pieces, whole and broken: what is read does not depend on how a body is split."""

from itertools import pairwise

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployments.errors import DeploymentError
from graphs.http.upload import FIELD_BYTES, OVERHEAD_BYTES, PARTS, Upload, receive
from testing.fakes import CHARACTERS
from tests.graphs.http.test_upload import Body, form, part

LIMIT_BYTES = 1000
BOUNDARY = b"--boundary"
NAMES = ["file", "steps", "", "ein Gemälde", "a" * 300, 'a"b', "\\", ";", "file\x00"]
NEAR_BOUNDARY = [b"\r\n--boundary", b"\r\n--boundar", b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n\r\n--boundary-"]

content = st.lists(st.sampled_from(NEAR_BOUNDARY) | st.binary(max_size=20), max_size=4).map(b"".join)
large = st.sampled_from(
    [LIMIT_BYTES, LIMIT_BYTES + 1, FIELD_BYTES, FIELD_BYTES + 1, OVERHEAD_BYTES, LIMIT_BYTES + OVERHEAD_BYTES]
).map(bytes)
headers = st.lists(
    st.sampled_from(
        ["Content-Type: audio/wav", "X: " + "y" * 300, "X:", "X", ": y", "X Y: z", 'Content-Disposition: form-data; name="x"']
    ),
    max_size=2,
)
parts = st.builds(lambda name, content, headers: part(name, content, *headers), st.sampled_from(NAMES), content | large, headers)
pieces = (
    parts | content | large | st.sampled_from([BOUNDARY, BOUNDARY + b"--", BOUNDARY + b"--\r\n", BOUNDARY + b"\r\n", b"\r\n\r\n"])
)
"""Also parts without their boundary's dashes, boundaries without a part, and bytes that belong to neither."""
bodies = st.lists(pieces, max_size=6).map(b"".join) | st.lists(parts, max_size=4).map(lambda parts: form(*parts))


async def outcome(chunks: list[bytes]) -> Upload | tuple[type[DeploymentError], str]:
    """Upload, or the error with its sentence; another exception is raised."""
    try:
        return await receive(Body(chunks).request, LIMIT_BYTES)
    except DeploymentError as error:
        return type(error), str(error)


def split(body: bytes, at: list[float]) -> list[bytes]:
    """The body cut at these shares of its length, into chunks of which some may be empty."""
    cuts = [0, *sorted(round(share * len(body)) for share in at), len(body)]
    return [body[start:end] for start, end in pairwise(cuts)]


@settings(max_examples=300)
@given(bodies, st.floats(0, 1) | st.just(1.0), st.lists(st.floats(0, 1), max_size=6))
@example(bytes(LIMIT_BYTES + OVERHEAD_BYTES) + b"\r\n" + BOUNDARY + b"x", 1.0, [0.5])
@example(form(part("file", b"sound")) + bytes(LIMIT_BYTES + OVERHEAD_BYTES), 1.0, [0.01, 0.5])
@example(form(*[part("x", bytes(FIELD_BYTES))] * 9, part("file", b"x")), 1.0, [0.5])
@example(form(*[part("x", b"")] * (PARTS + 1)), 1.0, [0.99])
@example(b"".join([part("x", bytes(FIELD_BYTES))] * 9) + BOUNDARY + b"x", 1.0, [0.99])
@example(b"\r\n-" + BOUNDARY + b"\r\n", 1.0, [0.1])
async def test_what_is_read_does_not_depend_on_the_chunks(body: bytes, kept: float, at: list[float]) -> None:
    body = body[: round(kept * len(body))]
    read = await outcome([body])
    assert await outcome(split(body, at)) == read
    if isinstance(read, Upload):
        assert len(read.recording) <= LIMIT_BYTES
        assert len(read.fields) < PARTS
        sizes = [len(name.encode()) + len(value.encode()) for name, value in read.fields]
        assert all(len(value.encode()) <= FIELD_BYTES for _, value in read.fields)
        assert len(read.recording) + sum(sizes) <= len(body) <= LIMIT_BYTES + OVERHEAD_BYTES


@settings(max_examples=50)
@given(bodies.filter(lambda body: len(body) < 1000))
async def test_nor_on_single_bytes(body: bytes) -> None:
    assert await outcome([bytes([byte]) for byte in body]) == await outcome([body])


names = st.text(CHARACTERS, max_size=20).filter(
    lambda name: name != "file" and not set(name) & set('"\\\r\n\x1b') and name.isprintable()
)


@settings(max_examples=100)
@given(
    st.dictionaries(names, st.text(CHARACTERS, max_size=100), max_size=5),
    content,
    st.text(CHARACTERS, max_size=20),
    st.lists(st.floats(0, 1), max_size=4),
)
async def test_a_form_that_httpx_encodes_is_read_as_it_was_written(
    fields: dict[str, str], recording: bytes, filename: str, at: list[float]
) -> None:
    sent = httpx.Request("POST", "http://service/", data=fields, files={"file": (filename, recording)})
    body = Body(split(sent.read(), at), sent.headers["content-type"])
    assert await receive(body.request, LIMIT_BYTES) == Upload(recording, list(fields.items()))
