"""Recordings in memory, made by PyAV or byte by byte: every accepted container, and hostile ones."""

import contextlib
import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from graphs.audio.decode import bound_allocations, decode
from testing import speech

RATE_HZ = 16_000
Samples = NDArray[np.int16]


def sweep(seconds: float) -> Samples:
    """Return a tone that rises from 200 Hz to 2 kHz: every codec preserves it, and no two parts of it are alike."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * (200 * time_s + 1800 / (2 * seconds) * time_s**2)
    return (8000 * np.sin(phase)).astype(np.int16)


class _Pipe:
    """Output of a live recorder: the muxer cannot seek back and fill in a header."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


@contextlib.contextmanager
def large_allocations() -> Iterator[None]:
    """Allow FFmpeg in this process to make files that the decoder's bounds would not let it read."""
    bound_allocations(1 << 30)
    try:
        yield
    finally:
        bound_allocations()


@large_allocations()
def encode(
    audio: Samples,
    format: str,
    codec: str,
    *,
    rate_hz: int = RATE_HZ,
    layout: str = "mono",
    live: bool = False,
    options: dict[str, str] | None = None,
    bit_rate: int | None = None,
) -> bytes:
    """Encode `audio`: int16 [samples], mono 16 kHz, or [samples, 2] for stereo. The names are FFmpeg's. `live` output is not seekable."""
    pipe, file = _Pipe(), io.BytesIO()
    with av.open(pipe if live else file, "w", format=format, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        stream.codec_context.options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder requires it
        if bit_rate:
            stream.bit_rate = bit_rate
        _mux(container, stream, audio, layout, rate_hz)
    return bytes(pipe.written) if live else file.getvalue()


def _mux(container: Any, stream: Any, audio: Samples, layout: str, rate_hz: int) -> None:
    """Write the whole track."""
    frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate = RATE_HZ
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate_hz)
    fifo = av.AudioFifo()
    for resampled in (*resampler.resample(frame), *resampler.resample(None)):
        resampled.pts = None
        fifo.write(resampled)
    size = stream.codec_context.frame_size or 1024
    written = 0
    while fifo.samples:
        part = fifo.read(min(size, fifo.samples))
        part.pts, part.time_base = written, Fraction(1, rate_hz)
        written += part.samples
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def stereo(audio: Samples) -> Samples:
    """Return the same audio on both channels."""
    return np.stack([audio, audio], axis=1)


FORMATS = {
    "wav": lambda audio: encode(audio, "wav", "pcm_s16le"),
    "wav 44.1 kHz stereo": lambda audio: encode(stereo(audio), "wav", "pcm_s16le", rate_hz=44_100, layout="stereo"),
    "wav 24 bit": lambda audio: encode(audio, "wav", "pcm_s24le", rate_hz=48_000),
    "wav float": lambda audio: encode(audio, "wav", "pcm_f32le"),
    "wav mu-law": lambda audio: encode(audio, "wav", "pcm_mulaw", rate_hz=8_000),
    "wav from a pipe": lambda audio: encode(audio, "wav", "pcm_s16le", live=True),
    "mp3": lambda audio: encode(audio, "mp3", "libmp3lame", bit_rate=64_000),
    "mp3 44.1 kHz stereo": lambda audio: encode(stereo(audio), "mp3", "libmp3lame", rate_hz=44_100, layout="stereo"),
    "flac": lambda audio: encode(audio, "flac", "flac"),
    "ogg/opus": lambda audio: encode(audio, "ogg", "libopus"),
    "ogg/vorbis": lambda audio: encode(stereo(audio), "ogg", "vorbis", layout="stereo"),
    "webm": lambda audio: encode(audio, "webm", "libopus", rate_hz=48_000),
    "webm as browsers record": lambda audio: encode(audio, "webm", "libopus", rate_hz=48_000, live=True, options={"live": "1"}),
    "m4a": lambda audio: encode(audio, "ipod", "aac"),
    "m4a/alac": lambda audio: encode(audio, "ipod", "alac"),
    "mp4 as browsers record": lambda audio: encode(
        audio, "mp4", "aac", rate_hz=48_000, live=True, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "aac": lambda audio: encode(audio, "adts", "aac"),
}
"""Encoder of each accepted format, from int16 [samples], mono 16 kHz."""


def wav(
    data: bytes, *, rate_hz: int = RATE_HZ, channels: int = 1, claimed_bytes: int | None = None, tag: int = 1, before: bytes = b""
) -> bytes:
    """Return 16-bit PCM (`tag` 1) with a header of any values. `claimed_bytes` is the size of `data` in the header."""
    size = len(data) if claimed_bytes is None else claimed_bytes
    riff_size = min(size + 36, 0xFFFFFFFF)
    rates = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * channels * 2 & 0xFFFFFFFF, channels * 2, 16)
    header = b"RIFF" + struct.pack("<I", riff_size) + b"WAVEfmt " + struct.pack("<I", 16) + rates
    return header + before + b"data" + struct.pack("<I", size) + data


def wav_of_gigabytes_of_tags() -> bytes:
    """Return some bytes that claim a comment of 2 GB."""
    claimed_bytes = 0x7FFFFFE0
    return wav(b"", before=b"LIST" + struct.pack("<I", claimed_bytes + 20) + b"INFOISFT" + struct.pack("<I", claimed_bytes))


def alac_at(rate_hz: int) -> bytes:
    """Return an m4a of blocks of 4096 samples that claims this rate: at 8 Hz each block lasts eight minutes."""
    whole = encode(np.zeros(4 * RATE_HZ, np.int16), "ipod", "alac")
    for scale in (1, 1 << 16):  # in the codec's header and the timescales, and as fixed point
        whole = whole.replace(struct.pack(">I", RATE_HZ * scale), struct.pack(">I", rate_hz * scale))
    return whole


def silence_flac(hours: float) -> bytes:
    """Return digital silence, of which FLAC keeps a few bytes per block."""
    return _repeated("flac", "flac", hours)


def silence_opus(hours: float) -> bytes:
    return _repeated("ogg", "libopus", hours, {"frame_duration": "120", "vbr": "on"})


def _repeated(format: str, codec: str, hours: float, options: dict[str, str] | None = None) -> bytes:
    """Repeat one packet of silence: the result is that of encoding hours of silence, in less time."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=RATE_HZ, layout="mono", options=options or {})
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        silent = av.AudioFrame.from_ndarray(np.zeros((1, size), np.int16), format="s16", layout="mono")
        silent.sample_rate, silent.pts, silent.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        packets = [*stream.encode(silent), *stream.encode(None)]
        content = bytes(packets[0])
        for number in range(int(hours * 3600 * RATE_HZ / size)):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, RATE_HZ)
            packet.pts = packet.dts = number * size
            packet.duration = size
            container.mux_one(packet)
    return file.getvalue()


def video_only() -> bytes:
    """Return an mp4 of four black frames and no sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


@large_allocations()
def film(audio: Samples, tracks: int = 1, side_px: int = 32, frames: int = 4, codec: str = "libx264") -> bytes:
    """Return a Matroska file of `tracks` black video tracks and one Opus track: a small file that is large when decoded."""
    pix_fmt, options = ("yuv420p", {"preset": "ultrafast"}) if codec == "libx264" else ("yuvj420p", dict[str, str]())
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        videos = [
            container.add_stream(codec, rate=4, width=side_px, height=side_px, pix_fmt=pix_fmt, options=options)
            for _ in range(tracks)
        ]
        sound = container.add_stream("libopus", rate=48_000, layout="mono")
        black = av.VideoFrame.from_ndarray(np.zeros((side_px, side_px, 3), np.uint8), format="rgb24").reformat(format=pix_fmt)
        for video in videos:
            for number in range(frames):
                black.pts = number
                container.mux(video.encode(black))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        for resampled in av.AudioResampler(format=sound.codec_context.format, layout="mono", rate=48_000).resample(frame):
            container.mux(sound.encode(resampled))
        container.mux(sound.encode(None))
    return file.getvalue()


def tracks(audio: Samples, number: int) -> bytes:
    """Return a QuickTime file of `number` tracks of the same sound."""
    return tracks_of([(audio, "pcm_s16le")] * number)


def tracks_of(sounds: Sequence[tuple[Samples, str]]) -> bytes:
    """Return a QuickTime file with a track of each sound, by its codec's name."""
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        rates = [48_000 if codec == "ac3" else RATE_HZ for _, codec in sounds]
        streams = [container.add_stream(codec, rate=rate, layout="mono") for rate, (_, codec) in zip(rates, sounds, strict=True)]
        for stream, rate_hz, (audio, _) in zip(streams, rates, sounds, strict=True):
            _mux(container, stream, audio, "mono", rate_hz)
    return file.getvalue()


def mov_of_indexes(number: int, samples: int) -> bytes:
    """Return some KB whose `number` tracks each claim `samples` samples of one size. FFmpeg's index takes 36 bytes per sample."""
    sound = _full(b"smhd", bytes(4)) + _box(b"dinf", _full(b"dref", _words(1), _full(b"url ", flags=1)))
    entry = _box(b"sowt", bytes(6), struct.pack(">H", 1), bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, RATE_HZ << 16))
    table = _full(b"stsd", _words(1), entry) + _full(b"stts", _words(1, samples, 2)) + _full(b"stsc", _words(1, 1, samples, 1))
    table += _full(b"stsz", _words(1, samples)) + _full(b"stco", _words(1, 40))
    media = _full(b"mdhd", _words(0, 0, RATE_HZ, RATE_HZ), bytes(4)) + _full(b"hdlr", bytes(4), b"soun", bytes(13))
    media += _box(b"minf", sound, _box(b"stbl", table))
    heads = [_full(b"tkhd", _words(0, 0, track, 0, 1000), bytes(60), flags=7) for track in range(1, number + 1)]
    moov = _full(b"mvhd", _words(0, 0, 1000, 1000), bytes(80)) + b"".join(
        _box(b"trak", head, _box(b"mdia", media)) for head in heads
    )
    return _box(b"ftyp", b"isom", _words(512), b"isom") + _box(b"mdat", bytes(64)) + _box(b"moov", moov)


def _box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def _full(kind: bytes, *content: bytes, flags: int = 0) -> bytes:
    return _box(kind, _words(flags), *content)


def _words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def _jpeg(size: int) -> bytes:
    """Return bytes with the header of a JPEG that are none."""
    return b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + np.random.default_rng(0).bytes(size) + b"\xff\xd9"


def flac_with_cover(audio: Samples, size: int) -> bytes:
    """Return a FLAC with the picture between the block STREAMINFO and the others (RFC 9639)."""
    plain, picture = encode(audio, "flac", "flac"), _jpeg(size)
    block = _words(3, 10) + b"image/jpeg" + _words(0, 100, 100, 24, 0, len(picture)) + picture
    return plain[:42] + _words(6 << 24 | len(block)) + block + plain[42:]


def m4a_with_cover(audio: Samples, size: int) -> bytes:
    """Return an m4a with the picture where iTunes puts it: moov, udta, meta, ilst, covr."""
    plain = encode(audio, "ipod", "aac")
    items = _box(b"ilst", _box(b"covr", _box(b"data", _words(13, 0), _jpeg(size))))
    udta = _box(b"udta", _full(b"meta", _full(b"hdlr", bytes(4), b"mdirappl", bytes(9)), items))
    at = plain.index(b"moov") - 4
    assert at + struct.unpack_from(">I", plain, at)[0] == len(plain), "moov is the last box"
    return plain[:at] + _box(b"moov", plain[at + 8 :], udta)


def mp3_with_cover(audio: Samples, size: int) -> bytes:
    """Return an mp3 with the picture in an ID3v2.4 tag before the sound."""

    def seven_bits(number: int) -> bytes:
        return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

    content = b"\0image/jpeg\0\3\0" + _jpeg(size)
    frame = b"APIC" + seven_bits(len(content)) + bytes(2) + content
    return b"ID3\4\0\0" + seven_bits(len(frame)) + frame + encode(audio, "mp3", "libmp3lame", bit_rate=64_000)


@large_allocations()
def mkv_with_cover(audio: Samples, size: int) -> bytes:
    """Return a Matroska file with the picture as an attachment."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        container.add_attachment("cover.jpg", "image/jpeg", _jpeg(size))
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


COVERS = {"flac": flac_with_cover, "m4a": m4a_with_cover, "mp3": mp3_with_cover, "mkv": mkv_with_cover}
"""Functions that add a cover picture, by container."""


def m3u8(*urls: str) -> bytes:
    """Return an HTTP Live Streaming playlist."""
    entries = "".join(f"#EXTINF:2.0,\n{url}\n" for url in urls)
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n{entries}#EXT-X-ENDLIST\n".encode()


def ffconcat(*urls: str) -> bytes:
    """Return a list of files that FFmpeg plays one after another."""
    return ("ffconcat version 1.0\n" + "".join(f"file '{url}'\n" for url in urls)).encode()


def mov_elsewhere(path: Path) -> bytes:
    """Return a QuickTime file of PCM whose samples are in the file `path`, referenced by a Macintosh alias."""
    whole = encode(np.zeros(RATE_HZ, np.int16), "mov", "pcm_s16le")
    name = str(path).encode()
    record = struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">hH", -1, 0)
    # The alias has no relative levels: the absolute path alone names the target.
    alias = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + struct.pack(">HH", 0, 0) + bytes(16) + record
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    return _replace_box(whole, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), dref)


def _replace_box(content: bytes, path: tuple[bytes, ...], new: bytes) -> bytes:
    """Return `content` with the box at `path` replaced, and with the enclosing boxes resized."""
    at = 0
    while True:
        size, kind = struct.unpack_from(">I4s", content, at)
        if kind == path[0]:
            break
        at += size
    if len(path) > 1:
        new = _replace_box(content[at + 8 : at + size], path[1:], new)
        new = struct.pack(">I4s", len(new) + 8, kind) + new
    return content[:at] + new + content[at + size :]


def minute() -> bytes:
    """Return 59 s of speech, two windows of Whisper. No window repeats a sentence: repetition triggers Whisper's temperature fallback."""
    files = sorted(speech.HERE.glob("*.ogg"), key=lambda path: path.stem.split("-")[::-1])
    sentences = np.concatenate([decode(path.read_bytes(), 60) for path in files])
    return encode(np.resize(sentences, 59 * RATE_HZ), "ogg", "libopus")
