"""Recordings that are several recordings one after another: chained Ogg (RFC 3533, section 4), and files of other formats joined.

FFmpeg's demuxers keep the first one's codec, rate and channels for all, or end with it. Each is read on its own instead. Formats of
frames alone, mp3 and aac, need no division.
"""

import re

MOST_LINKS = 64
OGG_PAGE = 27
"""Bytes of an Ogg page's header before its table of segments; byte 5 is its flags, byte 26 the length of the table."""
STARTS = (
    re.compile(rb"OggS\0[\2\3\6\7]"),  # a page with the flag `beginning of stream`
    re.compile(rb"fLaC[\0\x80]\0\0\x22"),  # and the block STREAMINFO, which has 34 bytes
    re.compile(rb"\x1aE\xdf\xa3(?=.{0,64}B\x82.(?:webm|matroska))", re.DOTALL),
    re.compile(rb"RIFF(?=.{4}WAVE(?:fmt |JUNK|LIST|bext))", re.DOTALL),
    re.compile(rb"\0\0\0[\x10-\x40]ftyp(?=M4A |M4V |isom|iso[2-9]|mp4[12]|dash|qt  |3gp)", re.DOTALL),
)
"""The start of a link, by format."""


def bounds(recording: bytes) -> list[tuple[int, int]]:
    """Return the first byte of each link and the one after its last: most recordings are one. Links beyond MOST_LINKS are left out."""
    tag = _tag_bytes(recording)
    start = next((start for start in STARTS if start.match(recording, tag)), None)
    if start is None:
        return [(0, len(recording))]
    found, after = [0], _page_end(recording, tag)
    for match in start.finditer(recording, tag + 1):
        at = match.start()
        if at != after:  # the streams of one Ogg link begin in pages that follow each other
            found.append(at)
        after = _page_end(recording, at)
        if len(found) > MOST_LINKS:
            break
    return list(zip(found[:MOST_LINKS], [*found[1:], len(recording)], strict=False))


def _tag_bytes(recording: bytes) -> int:
    """Bytes of an ID3 tag before the recording; 0 for none."""
    if not recording.startswith(b"ID3") or len(recording) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(recording[6:10], (21, 14, 7, 0), strict=True))


def _page_end(recording: bytes, at: int) -> int:
    """The byte after an Ogg page; -1 in other formats."""
    header = recording[at : at + OGG_PAGE]
    if not header.startswith(b"OggS") or len(header) < OGG_PAGE:
        return -1
    table = recording[at + OGG_PAGE : at + OGG_PAGE + header[26]]
    return at + OGG_PAGE + len(table) + sum(table)
