"""Recordings that are made to take memory, time or a decoder down. Each is small for what it costs."""

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from testing import media
from testing.media import RATE_HZ, Samples

SOUND = media.sweep(1.0)
Make = Callable[[], bytes]


def noise(seconds: float) -> Samples:
    """Return white noise, in which the detector finds no speech in any window."""
    return (np.random.default_rng(0).standard_normal(int(seconds * RATE_HZ)) * 3000).astype(np.int16)


def name(number: int) -> bytes:
    """Return one of 36 ** 4 names."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return bytes(letters[number // 36**place % 36] for place in range(4))


def flac_of_names(number: int) -> bytes:
    """Return a FLAC whose comments have different names: FFmpeg compares each with all before it."""
    comments = struct.pack("<II", 0, number) + b"".join(struct.pack("<I", 6) + name(at) + b"=x" for at in range(number))
    plain = media.encode(SOUND, "flac", "flac")
    return plain[:42] + b"\x04" + len(comments).to_bytes(3) + comments + plain[42:]


def mp3_of_names(number: int) -> bytes:
    """Return an mp3 whose ID3 tag has such comments."""
    content = b"".join(b"TXXX" + struct.pack(">IH", 8, 0) + b"\3" + name(at) + b"\0xx" for at in range(number))
    size = bytes(len(content) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + content + media.encode(SOUND, "mp3", "libmp3lame", bit_rate=64_000)


def element(id: str, content: bytes) -> bytes:
    """Return an element of EBML."""
    return bytes.fromhex(id) + (len(content) | 1 << 56).to_bytes(8) + content


def number(id: str, value: int) -> bytes:
    return element(id, value.to_bytes(max(1, (value.bit_length() + 7) // 8)))


def mkv_of_laced_samples(rate_hz: int, samples: int) -> bytes:
    """Return a Matroska file of PCM whose blocks hold 256 frames of one sample: each frame is decoded on its own."""
    head = element(
        "1A45DFA3", number("4286", 1) + number("42F7", 1) + number("42F2", 4) + number("42F3", 8) + element("4282", b"matroska")
    )
    audio = element("E1", element("B5", struct.pack(">d", rate_hz)) + number("9F", 1) + number("6264", 8))
    entry = number("D7", 1) + number("73C5", 1) + number("83", 2) + number("9C", 1) + element("86", b"A_PCM/INT/LIT") + audio
    clusters = b""
    for start in range(0, samples, 256 * 100):
        blocks = (
            element("A3", b"\x81" + struct.pack(">hBB", (at - start) * 1000 // rate_hz, 0x84, 255) + b"\x10\xf0\x80\x40" * 64)
            for at in range(start, min(start + 256 * 100, samples), 256)
        )
        clusters += element("1F43B675", number("E7", start * 1000 // rate_hz) + b"".join(blocks))
    info = element("1549A966", number("2AD7B1", 1_000_000) + element("4D80", b"x") + element("5741", b"x"))
    return head + element("18538067", info + element("1654AE6B", element("AE", entry)) + clusters)


def flac_of_blocks(blocks: int) -> bytes:
    """Return a FLAC with a cover picture that FFmpeg refuses, and this many empty blocks after it."""
    whole = media.flac_with_cover(SOUND, 9_000_000)
    after = 46 + int.from_bytes(whole[43:46])
    return whole[:after] + b"\x01\0\0\0" * blocks + whole[after:]


def aac_of_damaged_packets(packets: int) -> bytes:
    whole = media.encode(SOUND, "adts", "aac")
    size = (whole[3] & 3) << 11 | whole[4] << 3 | whole[5] >> 5
    return (whole[:7] + np.random.default_rng(0).bytes(size - 7)) * packets


def wav_of_channels(channels: int, seconds: float) -> bytes:
    samples = np.tile(noise(seconds).reshape(-1, 1), (1, channels)).tobytes()
    return media.wav(samples, channels=channels)


def flipped(make: Make, every: int) -> bytes:
    """Return a recording with a bit flipped in each of so many bytes."""
    damaged = bytearray(make())
    for at in range(every, len(damaged), every):
        damaged[at] ^= 1 << at % 8
    return bytes(damaged)


KINDS: dict[str, Make] = {
    "large indexes": partial(media.mov_of_indexes, 20, 2_700_000),  # 8 KB: each of 20 tracks claims an index of 64 MB
    "bounded indexes": partial(media.mov_of_indexes, 12, 230_000),  # each just below the largest allocation
    "video tracks": partial(media.film, SOUND, tracks=10, side_px=4096, frames=1),  # of H.264
    "FLAC comments": partial(flac_of_names, 80_000),
    "ID3 tags": partial(mp3_of_names, 80_000),
    "laced at 384 kHz": partial(mkv_of_laced_samples, 384_000, 500_000),
    "laced at 16 kHz": partial(mkv_of_laced_samples, 16_000, 955_000),
    "noise": lambda: media.encode(noise(59.9), "flac", "flac"),
    "silent tracks": lambda: media.tracks_of([(np.zeros(59 * RATE_HZ, np.int16), "alac")] * 12),
    "long silence": partial(media.silence_opus, 0.5),  # half an hour in 0.3 MB
    "long blocks": partial(media.alac_at, 8),  # of eight minutes
    "cover picture": partial(media.flac_with_cover, SOUND, 15_000_000),
    "FLAC blocks": partial(flac_of_blocks, 3_000_000),
    "2 GB comment": media.wav_of_gigabytes_of_tags,
    "64 channels": partial(wav_of_channels, 64, 6.0),
    "damaged packets": partial(aac_of_damaged_packets, 20_000),
    "Ogg links": lambda: media.encode(media.sweep(0.2), "ogg", "libopus", rate_hz=48_000) * 5000,
    "flipped bits": partial(flipped, lambda: media.encode(noise(20), "webm", "libopus", rate_hz=48_000), 50),
}
"""Recordings by their names in tables."""
