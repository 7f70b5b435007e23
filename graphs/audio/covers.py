"""Removal of cover pictures from FLAC and mp4: FFmpeg reads them whole into memory, and has no option against it for these formats."""

import re

PICTURE = 6
"""Type of a FLAC's picture block (RFC 9639, section 8). A block starts with a byte of last-block flag and type, then 3 bytes of length."""
MOST_BLOCKS = 64
"""Most other blocks of a FLAC that are processed; each costs an iteration and an object, and encoders write fewer than ten."""
COVER = re.compile(rb"covr(?=.{4}data)", re.DOTALL)
"""The start of an mp4's atom of a cover picture."""


def left_out(recording: bytes) -> bytes:
    """Return the recording without its cover pictures; unchanged if it has none or is neither FLAC nor mp4."""
    if recording[4:8] == b"ftyp":
        return COVER.sub(b"free", recording)  # an atom of the same length that readers skip
    return _flac(recording) if recording.startswith(b"fLaC") else recording


def _flac(recording: bytes) -> bytes:
    at, blocks, last = 4, list[bytes](), False
    while not last and at + 4 <= len(recording):
        if len(blocks) == MOST_BLOCKS:
            return recording
        last, kind = bool(recording[at] & 0x80), recording[at] & 0x7F
        end = at + 4 + int.from_bytes(recording[at + 1 : at + 4])
        if kind != PICTURE:
            blocks.append(bytes([kind]) + recording[at + 1 : end])
        at = end
    if blocks:
        blocks[-1] = bytes([blocks[-1][0] | 0x80]) + blocks[-1][1:]
    return b"".join([recording[:4], *blocks, recording[at:]])
