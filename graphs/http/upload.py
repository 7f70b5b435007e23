"""Recordings from request bodies, read into memory and refused at the first byte beyond the limit."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from graphs.http.errors import AudioTooLarge, BodyTooLarge, MalformedRequest, UnsupportedMediaType

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a client's malformed form is a warning to it
RAW_TYPES = ("application/octet-stream", "video/webm", "video/mp4")
"""Media types accepted besides audio/*; browsers also label recordings of sound alone video/webm or video/mp4."""
FIELD_BYTES = 8192
"""Longest form field; the longest parameter is 1,000 characters of at most 4 bytes."""
JSON_BYTES = 64 * 1024
"""Largest JSON body; the longest parameters are 6,000 characters, each at most 12 bytes when JSON escapes it."""
PARTS = 64
OVERHEAD_BYTES = 64 * 1024
"""Bytes of a multipart body besides the recording."""


@dataclass
class Upload:
    recording: bytes
    fields: list[tuple[str, str]] = field(default_factory=list)
    """The form's other fields, in their order."""


async def receive(request: Request, max_bytes: int) -> Upload:
    """Read a form or a raw body. Raises AudioTooLarge, MalformedRequest, UnsupportedMediaType."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType("the body has a Content-Encoding: send the recording as it is, without one")
    kind, options = parse_options_header(request.headers.get("content-type", "application/octet-stream"))
    if kind == b"multipart/form-data":
        if not options.get(b"boundary"):
            raise MalformedRequest("the multipart body's Content-Type names no boundary: let the client set it, as curl -F does")
        _refuse_declared(request, max_bytes + OVERHEAD_BYTES, max_bytes)
        try:
            form = _Form(options[b"boundary"], max_bytes)
        except FormParserError as error:
            raise MalformedRequest("the multipart body's boundary is too long: it has at most 70 characters") from error
        return await form.read(request.stream())
    media_type = kind.decode("latin-1").lower()
    if not media_type.startswith("audio/") and media_type not in RAW_TYPES:
        raise UnsupportedMediaType(
            f"a raw body has to be audio/*, {', '.join(RAW_TYPES)}, and Content-Type names another type: "
            "set it, as in --header 'Content-Type: audio/wav', or send multipart/form-data with a field `file`"
        )
    _refuse_declared(request, max_bytes, max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return Upload(bytes(body))


async def receive_form(request: Request, max_bytes: int) -> Upload:
    """Read a form, and refuse a raw body. Raises the same as `receive`."""
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("the body has to be multipart/form-data with the recording in its field `file`")
    return await receive(request, max_bytes)


async def receive_json(request: Request) -> bytes:
    """Read a JSON body without parsing it. Raises BodyTooLarge, UnsupportedMediaType."""
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"application/json" or request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType(
            "the body has to be JSON: set --header 'Content-Type: application/json', and no Content-Encoding"
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES:
            raise BodyTooLarge(f"the JSON body is larger than {JSON_BYTES} bytes: send a shorter one")
    return bytes(body)


def _refuse_declared(request: Request, bound: int, max_bytes: int) -> None:
    """Raise AudioTooLarge before the first byte is read if the Content-Length exceeds the bound."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > bound):  # int() refuses thousands of digits
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> AudioTooLarge:
    return AudioTooLarge(
        f"the recording is larger than {max_bytes / 1024 / 1024:g} MiB (setting http.max_upload_bytes): send a shorter or compressed one"
    )


class _Form:
    """Callbacks of python-multipart that enforce the limits, and keep only the field `file` and text fields."""

    def __init__(self, boundary: bytes, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recording: bytearray | None = None
        self._fields: list[tuple[str, str]] = []
        self._parts = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_end": self._end,
            },
        )

    async def read(self, chunks: AsyncIterator[bytes]) -> Upload:
        bytes_left = self._max_bytes + OVERHEAD_BYTES  # including bytes before the first boundary and after the last
        begun = False
        try:
            async for chunk in chunks:
                content = chunk[:bytes_left]
                if not begun:  # the parser itself would skip whatever is in the same chunk, up to a dash
                    content = content.lstrip(b"\r\n")
                    begun = bool(content)
                self._parser.write(content)
                bytes_left -= len(chunk)
                if bytes_left < 0:
                    raise _too_large(self._max_bytes)
        except MultipartParseError as error:
            raise MalformedRequest("the multipart body is malformed: check its boundary, which curl -F sets by itself") from error
        if not self._ended:
            raise MalformedRequest("the multipart body ended before its last boundary: send it whole")
        if self._recording is None:
            raise MalformedRequest("the multipart body has no field `file`: send the recording in it: -F file=@recording.wav")
        return Upload(bytes(self._recording), self._fields)

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise MalformedRequest(f"the multipart body has more than {PARTS} fields: send fewer")
        self._header = (bytearray(), bytearray())
        self._disposition: dict[bytes, bytes] = {}
        self._value = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = parse_options_header(bytes(value))[1]
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        name = self._disposition.get(b"name")
        if name is None:
            raise MalformedRequest("a field of the multipart body has no name: give it one, as curl -F NAME=VALUE does")
        self._name = self._text(name, "a field's name")
        self._limit = self._max_bytes if self._name == "file" else FIELD_BYTES
        if self._name == "file" and self._recording is not None:
            raise MalformedRequest("the multipart body has two fields `file`: send one recording at a time")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._value += memoryview(data)[start:end]
        if len(self._value) > self._limit:
            if self._name == "file":
                raise _too_large(self._max_bytes)
            raise MalformedRequest(f"a form field is longer than {FIELD_BYTES} bytes: shorten it")

    def _end_part(self) -> None:
        if self._name == "file":
            self._recording = self._value
        else:
            self._fields.append((self._name, self._text(self._value, "a form field")))

    def _end(self) -> None:
        self._ended = True

    @staticmethod
    def _text(data: bytes | bytearray, label: str) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedRequest(f"{label} is not UTF-8: encode it so") from error
