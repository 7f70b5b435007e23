"""Formats and codecs of recordings. Plain Python: the HTTP edge lists them without loading FFmpeg."""

from collections.abc import Iterable

FORMATS = {
    "wav": "wav",
    "mp3": "mp3",
    "flac": "flac",
    "ogg": "ogg",
    "opus": "ogg",
    "webm": "matroska,webm",
    "m4a": "mov,mp4,m4a,3gp,3g2,mj2",
    "aac": "aac",
}
"""Accepted formats by their common name, and FFmpeg's names of the demuxers that may run for each.

Playlists, lists of files and the like are not among them. Every document's list of formats is this one.
"""
CODECS = {
    "mp3": "mp3,mp3float",
    "flac": "flac",
    "opus": "opus,libopus",
    "vorbis": "vorbis",
    "aac": "aac,aac_fixed",
    "alac": "alac",
    "PCM": ",".join(
        ["pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8"]
        + [f"pcm_{kind}{bits}{order}" for kind in "su" for bits in (16, 24, 32) for order in ("le", "be")]
        + [f"pcm_f{bits}{order}" for bits in (32, 64) for order in ("le", "be")]
    ),
}
"""The same for codecs: FFmpeg's names of the decoders that may run. FFmpeg opens no other, not even to probe a stream."""
EXACT = ("flac", "alac", "PCM")
"""Codecs that keep each sample, and pad nothing."""
DECODERS = ",".join(CODECS.values())


def listed(names: Iterable[str], last: str) -> str:
    """Join names: `a, b or c`, where `last` is `or`."""
    *most, one = names
    return f"{', '.join(most)} {last} {one}"
