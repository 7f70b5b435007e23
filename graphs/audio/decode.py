"""Decoding of untrusted recordings by FFmpeg through PyAV: it opens nothing but the bytes of the request."""

import ctypes
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ
from graphs.audio import covers, links
from graphs.audio.downmix import Downmix
from graphs.audio.errors import AudioEmpty, AudioTooLong, AudioUndecodable
from graphs.audio.formats import CODECS, DECODERS, EXACT, FORMATS, listed
from graphs.audio.job import LONGEST_PADDING_S, Sound, capacity
from graphs.audio.vad import is_silent

FORMAT = "s16"
"""FFmpeg's name of int16."""
SHORTEST_S = 0.1
HIGHEST_RATE_HZ = 384_000
"""The highest rate of recording equipment. A resampler's filter grows with the rate: at 1 GHz it takes gigabytes and half a minute."""
MOST_CHANNELS = 64
MOST_TRACKS = 12
"""Tracks of any kind in one recording; films of phones have up to 8. FFmpeg keeps an index for each."""
MOST_DAMAGED = 1000
"""Packets that are left out since they cannot be decoded; the recording ends at the next one."""
PADDING_FRAMES = 4
"""Longest padding of a codec that is not exact, at both ends together: AAC's is 2112 samples and the rest of a frame of 1024."""
BLOCK = 4000
"""Samples, 0.25 s: channels are mixed in blocks."""
LARGEST_ALLOCATION_BYTES = 8 * 1024 * 1024
"""The most that FFmpeg allocates at once; it allocates what a header claims, and by default up to 2 GB. An hour's index needs 5 MB."""
OPTIONS = {
    "format_whitelist": ",".join(dict.fromkeys(FORMATS.values())),
    "codec_whitelist": DECODERS,
    "max_streams": str(MOST_TRACKS),
    "probesize": str(1024 * 1024),  # bytes that are read to identify the streams
    "analyzeduration": "5000000",  # microseconds of them
    "max_probe_packets": "8",  # compared with every format, as for PCM in WAV: 32, FFmpeg's own bound there, take 6 ms more
    "fpsprobesize": "0",  # frames of video for its rate
    "protocol_whitelist": "none",
    "enable_drefs": "0",
    "use_absolute_path": "0",
}
"""No protocol exists under the name `none`: what a container refers to outside of itself cannot be opened."""


def bound_allocations(at_most_bytes: int = LARGEST_ALLOCATION_BYTES) -> None:
    """Of FFmpeg in this whole process. PyAV has no function for it; its wheel keeps FFmpeg's libraries beside itself."""
    (library,) = Path(av.__file__).parents[1].glob("av.libs/libavutil*")
    ctypes.CDLL(str(library)).av_max_alloc(ctypes.c_size_t(at_most_bytes))


bound_allocations()


class Samples:
    """The decoded samples, and the bound of their number."""

    def __init__(self, buffer: NDArray[np.int16], max_duration_s: float, each_second: Callable[[], None]) -> None:
        """`buffer`: of `capacity(max_duration_s)` samples. `each_second`: called after each second of sound, of any track."""
        self._bytes = memoryview(buffer).cast("B")
        self._buffer = buffer
        self._max_duration_s = max_duration_s
        self._most = int(max_duration_s * SAMPLE_RATE_HZ)
        self._each_second = each_second
        self._next_second = SAMPLE_RATE_HZ
        self.size = 0

    @property
    def seconds(self) -> float:
        return self.size / SAMPLE_RATE_HZ

    def since(self, start: int) -> NDArray[np.int16]:
        return self._buffer[start : self.size]

    def cut(self, size: int) -> None:
        self.size = size
        self._next_second = size + SAMPLE_RATE_HZ

    def require_place(self, seconds: float, padding_s: float) -> None:
        """Raise AudioTooLong for a frame that is much longer than what is left: it is asked before the frame is resampled."""
        if seconds > (self._most - self.size) / SAMPLE_RATE_HZ + 1 + padding_s:
            raise self._too_long()

    def append(self, data: Any, padding_s: float) -> None:
        """`data`: bytes of int16. Raises AudioTooLong."""
        end = self.size + len(data) // 2
        if end > self._most + int(padding_s * SAMPLE_RATE_HZ):
            raise self._too_long()
        self._bytes[2 * self.size : 2 * end] = data
        self.size = end
        while end >= self._next_second:
            self._next_second += SAMPLE_RATE_HZ
            self._each_second()

    def _too_long(self) -> AudioTooLong:
        limit = f"{self._max_duration_s:g} s, the limit of this service"
        return AudioTooLong(f"the recording is longer than {limit}: send a shorter one")


def decode(recording: bytes, max_duration_s: float) -> NDArray[np.int16]:
    """The samples alone of `decode_sound`: int16 [samples], mono 16 kHz."""
    return decode_sound(recording, max_duration_s).samples


def decode_sound(
    recording: bytes,
    max_duration_s: float,
    buffer: NDArray[np.int16] | None = None,
    each_second: Callable[[], None] = lambda: None,
) -> Sound:
    """Decode the first audio track with sound in it. The content decides the format.

    Stops at the limit, however long the recording claims or turns out to be. `buffer` and `each_second`: as for `Samples`.
    Raises AudioEmpty, AudioTooLong, AudioUndecodable.
    """
    if not recording:
        raise AudioEmpty("the recording is empty: 0 bytes were received")
    samples = Samples(np.empty(capacity(max_duration_s), np.int16) if buffer is None else buffer, max_duration_s, each_second)
    reading = _Reading(samples)
    for start, end in links.bounds(recording):
        reading.link(recording[start:end])
    if samples.size == 0 and reading.error is not None:
        raise _undecodable(reading.error) from reading.error
    if samples.size < SHORTEST_S * SAMPLE_RATE_HZ:
        raise AudioEmpty(f"the recording holds {samples.seconds:.2f} s of sound; at least {SHORTEST_S} s is needed")
    return Sound(samples.since(0), tuple(reading.warnings()))


class _Reading:
    """The sound of one recording, read into `samples`, and what was left out of it."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._damaged = 0
        self._left_out: list[str] = []
        self.error: Exception | None = None
        """The first one. What could be decoded is used: players do the same with a damaged file."""

    def warnings(self) -> Iterator[str]:
        if self._damaged:
            yield f"packets that could not be decoded and were left out: {self._damaged}"
        yield from self._left_out

    def link(self, recording: bytes) -> None:
        """Append the first audio track that has sound; if none has, the longest silence."""
        start = end = self._samples.size
        number, tracks = 0, 1
        while number < tracks:
            self._samples.cut(start)
            mono = _Mono(self._samples)
            with self._tolerating(), _opened(recording) as container:
                streams = _readable(container)
                tracks = len(streams)
                self._read(container, streams[number], mono)
            with self._tolerating():
                mono.flush()
            if tracks == 1 or not is_silent(self._samples.since(start)):
                if number:
                    self._left_out.append(f"audio tracks without sound before the one that was taken: {number}")
                return
            end = max(end, self._samples.size)
            number += 1
        self._samples.cut(end)

    @contextmanager
    def _tolerating(self) -> Iterator[None]:
        """Note an error of its block."""
        try:
            yield
        except (av.error.FFmpegError, ValueError, OverflowError, AudioUndecodable) as error:
            self.error = self.error or error
            self._left_out.append(
                f"a part after {self._samples.seconds:.2f} s could not be read and was left out ({_reason(error)})"
            )

    def _read(self, container: Any, stream: Any, mono: "_Mono") -> None:
        """Read one track. Video and pictures are neither read nor decoded. Packets that cannot be decoded are left out."""
        stream.codec_context.thread_count = 1
        mono.exact = any(stream.codec_context.name in CODECS[name].split(",") for name in EXACT)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self.error = self.error or error
                self._damaged += 1
                if self._damaged == MOST_DAMAGED:
                    raise
                continue
            for frame in frames:
                mono.append(frame)


class _Mono:
    """One track's frames as mono 16 kHz. Their format may change: each has a resampler of its own, which is flushed at its end."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._format: tuple[str, str, int] | None = None
        self._resampler: Any = None
        self._downmix: Downmix | None = None
        self._channels = 1
        self._block = bytearray()
        """Samples of all channels that wait to be mixed."""
        self._padding_s = 0.0
        self.exact = False
        """Whether the codec pads nothing."""

    def append(self, frame: Any) -> None:
        """Raise AudioTooLong, and AudioUndecodable for an impossible format."""
        rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
        if rate_hz > HIGHEST_RATE_HZ:
            raise AudioUndecodable(f"the recording claims a sample rate of {rate_hz} Hz; at most {HIGHEST_RATE_HZ} is read")
        if channels > MOST_CHANNELS:
            raise AudioUndecodable(f"the recording has {channels} channels; at most {MOST_CHANNELS} are mixed: send fewer")
        seconds = frame.samples / rate_hz
        if not self.exact:
            self._padding_s = max(self._padding_s, min(PADDING_FRAMES * seconds, LONGEST_PADDING_S))
        # A frame of few bytes can stand for hours at a rate of a few Hz.
        self._samples.require_place(seconds, self._padding_s)
        format = (frame.format.name, frame.layout.name, rate_hz)
        if format != self._format:
            self.flush()
            as_it_is = channels == 1 and frame.format.name == FORMAT and rate_hz == SAMPLE_RATE_HZ
            self._resampler = None if as_it_is else av.AudioResampler(format=FORMAT, layout=frame.layout, rate=SAMPLE_RATE_HZ)
            self._format, self._channels = format, channels
            self._downmix = Downmix(channels) if channels > 1 else None
        self._keep([frame] if self._resampler is None else self._resampler.resample(frame))

    def flush(self) -> None:
        """Append what the resampler and the block hold."""
        if self._resampler is not None:
            self._keep(self._resampler.resample(None))
            self._resampler = None
        self._mix()

    def _keep(self, frames: list[Any]) -> None:
        """Copy the frames' samples: a frame that was kept would hold FFmpeg's buffers."""
        for frame in frames:
            data = memoryview(frame.planes[0])[: 2 * self._channels * frame.samples]  # a plane is longer than its samples
            if self._downmix is None:
                self._samples.append(data, self._padding_s)
                continue
            self._block += data
            if len(self._block) >= 2 * self._channels * BLOCK:
                self._mix()

    def _mix(self) -> None:
        block, self._block = np.frombuffer(self._block, np.int16).reshape(-1, self._channels), bytearray()
        for start in range(0, len(block), BLOCK):
            assert self._downmix is not None, "only blocks of several channels are mixed"
            self._samples.append(self._downmix(block[start : start + BLOCK]).data.cast("B"), self._padding_s)


def _opened(recording: bytes) -> Any:
    """The recording as PyAV's container. FFmpeg reads a FLAC's or an mp4's cover pictures whole: larger ones are left out."""
    try:
        return av.open(io.BytesIO(recording), mode="r", options=OPTIONS)
    except av.error.MemoryError:
        without = covers.left_out(recording)
        if without == recording:
            raise
        return av.open(io.BytesIO(without), mode="r", options=OPTIONS)


def _readable(container: Any) -> list[Any]:
    """The audio tracks whose decoders may run; at least one. Raises AudioUndecodable."""
    if not container.streams.audio:
        raise AudioUndecodable("the recording has no audio track")
    accepted = DECODERS.split(",")
    found = [one for one in container.streams.audio if one.codec_context is not None and one.codec_context.name in accepted]
    if not found:
        raise AudioUndecodable(f"the recording's audio codec is none of {listed(CODECS, 'and')}: convert it to one of them")
    return found


def _undecodable(error: Exception) -> Exception:
    if isinstance(error, AudioUndecodable):
        return error
    accepted = listed(FORMATS, "or")
    if isinstance(error, av.error.MemoryError):
        return AudioUndecodable(
            f"the recording has more than {MOST_TRACKS} tracks, or a track, tag or picture that takes more than "
            f"{LARGEST_ALLOCATION_BYTES >> 20} MiB of memory: send its sound alone, as {accepted}"
        )
    return AudioUndecodable(f"the recording cannot be read as {accepted} ({_reason(error)})")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
