"""Recordings damaged by their containers' structure, decoded in a worker: `python -m testing.mutations --seconds 600`.

Each is answered: heard, or refused by a sentence. One that is not, since it ended the worker or was a defect, is written to the corpus,
tests/graphs/audio/corpus, whose files the suite decodes again.
"""

import argparse
import asyncio
import random
import struct
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from deployments.errors import DeploymentError
from graphs.audio.errors import REFUSALS
from graphs.audio.pool import DecodePool
from graphs.audio.settings import AudioSettings
from testing import media

CORPUS = Path(__file__).parents[1] / "tests" / "graphs" / "audio" / "corpus"
SETTINGS = AudioSettings(max_duration_s=5.0, decode_workers=2)
SOUND = media.sweep(0.4)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Part(NamedTuple):
    """A box, element, page, chunk, block or frame: its place, where its length stands, and the length's bytes."""

    start: int
    size_at: int
    size_bytes: int
    end: int


def boxes(whole: bytes, start: int = 0, end: int | None = None) -> Iterator[Part]:
    """The boxes of an mp4, those within boxes included."""
    end = len(whole) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", whole, start)
        if size < 8 or start + size > end:
            return
        yield Part(start, start, 4, start + size)
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"udta", b"moof", b"traf", b"edts"):
            yield from boxes(whole, start + 8, start + size)
        start += size


def elements(whole: bytes, start: int = 0, end: int | None = None) -> Iterator[Part]:
    """The elements of a Matroska file, those within elements included."""
    end = len(whole) if end is None else end
    while start < end and whole[start]:
        at = start + 9 - whole[start].bit_length()
        if at >= end or not whole[at]:
            return
        width = 9 - whole[at].bit_length()
        size = int.from_bytes(whole[at : at + width]) & ((1 << 7 * width) - 1)
        stop = min(end, at + width + size)
        yield Part(start, at, width, stop)
        if whole[start:at] in {
            bytes.fromhex(id) for id in ("1A45DFA3", "18538067", "1549A966", "1654AE6B", "AE", "E1", "1F43B675")
        }:
            yield from elements(whole, at + width, stop)
        start = stop


def pages(whole: bytes) -> Iterator[Part]:
    """The pages of an Ogg file."""
    start = 0
    while whole[start : start + 4] == b"OggS":
        table = whole[start + 27 : start + 27 + whole[start + 26]]
        end = start + 27 + len(table) + sum(table)
        yield Part(start, start + 26, 1, end)
        start = end


def chunks(whole: bytes) -> Iterator[Part]:
    """The chunks of a wav."""
    yield Part(0, 4, 4, len(whole))
    start = 12
    while start + 8 <= len(whole):
        end = start + 8 + int.from_bytes(whole[start + 4 : start + 8], "little")
        yield Part(start, start + 4, 4, min(end, len(whole)))
        start = end


def blocks(whole: bytes) -> Iterator[Part]:
    """The metadata blocks of a FLAC, then pieces of its frames."""
    start, last = 4, False
    while not last and start + 4 <= len(whole):
        last, end = bool(whole[start] & 0x80), start + 4 + int.from_bytes(whole[start + 1 : start + 4])
        yield Part(start, start + 1, 3, end)
        start = end
    yield from pieces(whole, start)


def pieces(whole: bytes, start: int = 0) -> Iterator[Part]:
    """Pieces of about the size of a frame, for formats of frames alone."""
    for at in range(start, len(whole), 200):
        yield Part(at, at + 2, 2, min(at + 200, len(whole)))


STRUCTURE: dict[str, Callable[[bytes], Iterator[Part]]] = {
    "wav": chunks, "wav 24 bit": chunks, "mp3": pieces, "aac": pieces, "flac": blocks, "ogg/opus": pages, "ogg/vorbis": pages,
    "webm": elements, "webm as browsers record": elements, "m4a": boxes, "m4a/alac": boxes, "mp4 as browsers record": boxes,
}  # fmt: skip
"""Functions that find the parts, by the name of a format in `testing.media`."""
WHOLE = {name: media.FORMATS[name](SOUND) for name in STRUCTURE}


def mutant(name: str, seed: int) -> bytes:
    """Return a recording of this format with one to four of its parts changed."""
    chance, whole = random.Random(f"{name} {seed}"), WHOLE[name]
    for _ in range(chance.randint(1, 4)):
        part = chance.choice(list(STRUCTURE[name](whole)) or [Part(0, 0, 1, len(whole))])
        whole = _changed(whole, part, chance)
    return checked(whole) if STRUCTURE[name] is pages else whole


def _changed(whole: bytes, part: Part, chance: random.Random) -> bytes:
    before, content, after = whole[: part.start], whole[part.start : part.end], whole[part.end :]
    size_at = part.size_at - part.start
    match chance.randrange(8):
        case 0:  # another length
            size = chance.choice([*EXTREMES, len(content) + chance.randint(-9, 9)]) & ((1 << 8 * part.size_bytes) - 1)
            new = (
                content[:size_at]
                + size.to_bytes(part.size_bytes, chance.choice(["big", "little"]))
                + content[size_at + part.size_bytes :]
            )
        case 1:
            new = b""
        case 2:
            new = content * chance.randint(2, 50)
        case 3:
            new = content[: chance.randint(0, len(content))]
        case 4:  # an extreme number anywhere
            at, width = chance.randrange(max(1, len(content))), chance.choice([1, 2, 4, 8])
            number = chance.choice(EXTREMES) & ((1 << 8 * width) - 1)
            new = content[:at] + number.to_bytes(width, chance.choice(["big", "little"])) + content[at + width :]
        case 5:
            new = content[: size_at + part.size_bytes] + chance.randbytes(max(0, len(content) - size_at - part.size_bytes))
        case 6:  # flipped bits
            damaged = bytearray(content)
            for _ in range(chance.randint(1, 30)):
                if damaged:
                    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            new = bytes(damaged)
        case _:  # a part of another file
            other = chance.choice(list(WHOLE.values()))
            at = chance.randrange(len(other))
            new = content + other[at : at + chance.randint(1, 2000)]
    return before + new + after


def _crc(page: bytes) -> int:
    """The checksum of an Ogg page (RFC 3533, section 6)."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


def checked(whole: bytes) -> bytes:
    """Return the Ogg file with right checksums: FFmpeg passes over a page with a wrong one."""
    fixed = bytearray(whole)
    for part in pages(whole):
        page = bytearray(fixed[part.start : part.end])
        if len(page) >= 27:
            page[22:26] = bytes(4)
            fixed[part.start + 22 : part.start + 26] = _crc(page).to_bytes(4, "little")
    return bytes(fixed)


async def fault(pool: DecodePool, recording: bytes) -> str:
    """Decode; return why the answer is none, or an empty text for one."""
    try:
        sound = await asyncio.wait_for(pool.decode(recording), 30)
    except TimeoutError:
        return "no answer within 30 s"
    except DeploymentError as error:
        ended = "ended the process" in str(error)
        return "" if error.code in REFUSALS and not ended else f"{error.code}: {error}"
    return "" if sound.samples.size <= 5.5 * media.RATE_HZ else f"{sound.samples.size} samples"


async def run(seconds: float, seed: int) -> int:
    """Decode mutants for so long, and write those without an answer to the corpus. Returns their number."""
    pool, console, found, tried = DecodePool(SETTINGS), Console(), 0, 0
    end = time.monotonic() + seconds
    with Progress(console=console) as progress:
        bar = progress.add_task("mutants", total=seconds)
        while (left := end - time.monotonic()) > 0:
            for name in STRUCTURE:
                recording = mutant(name, seed)
                tried += 1
                if why := await fault(pool, recording):
                    found += 1
                    path = CORPUS / sha256(recording).hexdigest()[:16]
                    path.write_bytes(recording)
                    console.print(f"{name}, seed {seed}: {why} ({path})")
            seed += 1
            progress.update(bar, completed=seconds - left, description=f"{tried} mutants, {found} without an answer")
    pool.close()
    console.print(f"{tried} mutants up to seed {seed - 1}: {found} without an answer")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=10_000)
    arguments = parser.parse_args()
    raise SystemExit(bool(asyncio.run(run(arguments.seconds, arguments.seed))))
