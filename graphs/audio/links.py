"""Recordings that are several recordings one after another: chained Ogg (RFC 3533, section 4), FLAC and Matroska files joined.

FFmpeg's demuxers keep the first one's codec, rate and channels for all. Each is read on its own instead.
"""

import re

MOST_LINKS = 64
OGG_PAGE = 27
"""Bytes of an Ogg page's header before its table of segments; byte 5 is its flags, byte 26 the length of the table."""
STARTS = {
    b"OggS": re.compile(rb"OggS\0[\2\3\6\7]"),  # a page with the flag `beginning of stream`
    b"fLaC": re.compile(rb"fLaC[\0\x80]\0\0\x22"),  # and the block STREAMINFO, which has 34 bytes
    b"\x1aE\xdf\xa3": re.compile(rb"\x1aE\xdf\xa3(?=.{0,64}B\x82.(?:webm|matroska))", re.DOTALL),
}
"""The start of a link, by a recording's first four bytes."""


def bounds(recording: bytes) -> list[tuple[int, int]]:
    """Return the first byte of each link and the one after its last: most recordings are one. Links beyond MOST_LINKS are left out."""
    start = STARTS.get(recording[:4])
    if start is None:
        return [(0, len(recording))]
    found, after = [0], _page_end(recording, 0)
    for match in start.finditer(recording, 1):
        at = match.start()
        if at != after:  # the streams of one link begin in pages that follow each other
            found.append(at)
        after = _page_end(recording, at)
        if len(found) > MOST_LINKS:
            break
    return list(zip(found[:MOST_LINKS], [*found[1:], len(recording)], strict=False))


def _page_end(recording: bytes, at: int) -> int:
    """The byte after an Ogg page; -1 in other formats."""
    header = recording[at : at + OGG_PAGE]
    if not header.startswith(b"OggS") or len(header) < OGG_PAGE:
        return -1
    table = recording[at + OGG_PAGE : at + OGG_PAGE + header[26]]
    return at + OGG_PAGE + len(table) + sum(table)
