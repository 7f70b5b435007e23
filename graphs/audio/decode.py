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
from graphs.audio.errors import AudioEmpty, AudioUndecodable
from graphs.audio.formats import CODECS, DECODERS, EXACT, FORMATS, listed
from graphs.audio.job import DecodedAudio, capacity
from graphs.audio.mono import Mono, Samples
from graphs.audio.vad import is_silent

SHORTEST_S = 0.1
MOST_TRACKS = 12
"""Tracks of any kind in one recording; films of phones have up to 8. FFmpeg keeps an index for each."""
MOST_DAMAGED = 1000
"""Packets that are left out since they cannot be decoded; the recording ends at the next one."""
LARGEST_ALLOCATION_BYTES = 8 * 1024 * 1024
"""The most that FFmpeg allocates at once; it allocates what a header claims, and by default up to 2 GB. An hour's index needs 5 MB."""
OPTIONS = {
    "format_whitelist": ",".join(dict.fromkeys(FORMATS.values())),
    "codec_whitelist": DECODERS,
    "max_streams": str(MOST_TRACKS),
    "probesize": str(1024 * 1024),  # bytes that are read to identify the streams
    "analyzeduration": "5000000",  # microseconds of them
    "max_probe_packets": "1",  # compared with every format, as for PCM in WAV: a second one takes as long again
    "max_size": "32768",  # bytes of a packet of WAV: what AC-3 in it is told by, and few rounds through Python (FFmpeg's own are of 4096)
    "fpsprobesize": "0",  # frames of video for its rate
    "protocol_whitelist": "none",
    "enable_drefs": "0",
    "use_absolute_path": "0",
}
"""No protocol exists under the name `none`: what a container refers to outside of itself cannot be opened."""


def _libavutil() -> ctypes.CDLL:
    """FFmpeg's library for what PyAV has no function for; PyAV's wheel keeps it beside itself."""
    (library,) = Path(av.__file__).parents[1].glob("av.libs/libavutil*")
    return ctypes.CDLL(str(library))


def bound_allocations(at_most_bytes: int = LARGEST_ALLOCATION_BYTES) -> None:
    """Of FFmpeg in this whole process."""
    _libavutil().av_max_alloc(ctypes.c_size_t(at_most_bytes))


bound_allocations()
_libavutil().av_cpu_force_count(1)  # or each resampler starts a thread for each CPU


def decode(recording: bytes, max_duration_s: float) -> NDArray[np.int16]:
    """The samples alone of `decode_sound`: int16 [samples], mono 16 kHz."""
    return decode_sound(recording, max_duration_s).samples


def decode_sound(
    recording: bytes,
    max_duration_s: float,
    buffer: NDArray[np.int16] | None = None,
    each_second: Callable[[], None] = lambda: None,
) -> DecodedAudio:
    """Decode the first audio track with sound in it. The content decides the format.

    Stops at the limit, however long the recording claims or turns out to be. `buffer` and `each_second`: as for `Samples`.
    Raises AudioEmpty, AudioTooLong, AudioUndecodable.
    """
    if not recording:
        raise AudioEmpty("the recording is empty: 0 bytes were received, so check the file")
    samples = Samples(np.empty(capacity(max_duration_s), np.int16) if buffer is None else buffer, max_duration_s, each_second)
    reading = _Reading(samples)
    for start, end in links.bounds(recording):
        reading.link(recording[start:end])
    if samples.size == 0 and reading.error is not None:
        raise _undecodable(reading.error) from reading.error
    if samples.size < SHORTEST_S * SAMPLE_RATE_HZ:
        raise AudioEmpty(f"the recording holds {samples.seconds:.2f} s of sound; at least {SHORTEST_S} s is needed: record more")
    return DecodedAudio(samples.since(0), tuple(reading.warnings()))


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
            mono = Mono(self._samples)
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

    def _read(self, container: Any, stream: Any, mono: "Mono") -> None:
        """Read one track. Video and pictures are neither read nor decoded. Packets that cannot be decoded are left out."""
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
        raise AudioUndecodable("the recording has no audio track: send one that has")
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
