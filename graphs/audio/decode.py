"""Decoding of untrusted recordings, in process, by FFmpeg through PyAV: it opens nothing but the bytes of the request."""

import ctypes
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ
from graphs.audio import covers
from graphs.audio.errors import AudioEmpty, AudioTooLong, AudioUndecodable
from graphs.audio.vad import require_speech

FORMAT = "s16"
"""FFmpeg's name of int16."""
SHORTEST_S = 0.1
HIGHEST_RATE_HZ = 384_000
"""The highest rate of recording equipment. A resampler's filter grows with the rate: at 1 GHz it takes gigabytes and half a minute."""
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
DECODERS = ",".join(CODECS.values())
MOST_TRACKS = 12
"""Tracks of any kind in one recording; films of phones have up to 8. FFmpeg keeps an index for each."""
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


def decode(recording: bytes, max_duration_s: float) -> NDArray[np.int16]:
    """Return int16 [samples], mono 16 kHz. The content decides the format.

    Stops at the limit, however long the recording claims or turns out to be.
    Raises AudioEmpty, AudioTooLong, AudioUndecodable.
    """
    if not recording:
        raise AudioEmpty("the recording is empty: 0 bytes were received")
    samples = bytearray()
    try:
        with _opened(recording) as container:
            _read(container, max_duration_s, samples)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        # The samples before the damage are used: players do the same with a file that was cut short.
        if not samples:
            raise _undecodable(error) from error
    audio = np.frombuffer(samples, np.int16)
    if audio.size < SHORTEST_S * SAMPLE_RATE_HZ:
        raise AudioEmpty(f"the recording holds {audio.size / SAMPLE_RATE_HZ:.2f} s of sound; at least {SHORTEST_S} s is needed")
    return audio


def decode_speech(recording: bytes, max_duration_s: float) -> NDArray[np.int16]:
    """The same, of a recording with speech in it. Raises NoSpeech too."""
    audio = decode(recording, max_duration_s)
    require_speech(audio)
    return audio


def listed(names: Iterable[str], last: str) -> str:
    """Join names: `a, b or c`, where `last` is `or`."""
    *most, one = names
    return f"{', '.join(most)} {last} {one}"


def _opened(recording: bytes) -> Any:
    """The recording as PyAV's container. FFmpeg reads a FLAC's or an mp4's cover pictures whole: larger ones are left out."""
    try:
        return av.open(io.BytesIO(recording), mode="r", options=OPTIONS)
    except av.error.MemoryError:
        without = covers.left_out(recording)
        if without == recording:
            raise
        return av.open(io.BytesIO(without), mode="r", options=OPTIONS)


def _read(container: Any, max_duration_s: float, samples: bytearray) -> None:
    """Append the sound of the first audio track to `samples`. Video and pictures are neither read nor decoded."""
    if not container.streams.audio:
        raise AudioUndecodable("the recording has no audio track")
    stream = container.streams.audio[0]
    if stream.codec_context is None or stream.codec_context.name not in DECODERS.split(","):
        raise AudioUndecodable(f"the recording's audio codec is none of {listed(CODECS, 'and')}: convert it to one of them")
    stream.codec_context.thread_count = 1
    resampler = av.AudioResampler(format=FORMAT, layout="mono", rate=SAMPLE_RATE_HZ)
    left = int(max_duration_s * SAMPLE_RATE_HZ)
    for frame in container.decode(stream):
        if frame.sample_rate > HIGHEST_RATE_HZ:
            raise AudioUndecodable(
                f"the recording claims a sample rate of {frame.sample_rate} Hz; at most {HIGHEST_RATE_HZ} is read"
            )
        # A frame of few bytes can stand for hours at a rate of a few Hz: asked before it is resampled.
        if frame.samples > (left / SAMPLE_RATE_HZ + 1) * frame.sample_rate:
            raise _too_long(max_duration_s)
        as_it_is = (frame.format.name, frame.layout.nb_channels, frame.sample_rate) == (FORMAT, 1, SAMPLE_RATE_HZ)
        left -= _keep([frame] if as_it_is else resampler.resample(frame), samples)
        if left < 0:
            raise _too_long(max_duration_s)
    if _keep(resampler.resample(None), samples) > left:
        raise _too_long(max_duration_s)


def _keep(frames: list[Any], samples: bytearray) -> int:
    """Copy the frames' samples and return their number; a frame that was kept would hold FFmpeg's buffers."""
    before = len(samples)
    for frame in frames:
        samples += memoryview(frame.planes[0])[: 2 * frame.samples]  # a plane is longer than its samples
    return (len(samples) - before) // 2


def _too_long(max_duration_s: float) -> AudioTooLong:
    return AudioTooLong(f"the recording is longer than {max_duration_s:g} s, the limit of this service: send a shorter one")


def _undecodable(error: Exception) -> AudioUndecodable:
    accepted = listed(FORMATS, "or")
    if isinstance(error, av.error.MemoryError):
        return AudioUndecodable(
            f"the recording has more than {MOST_TRACKS} tracks, or a track, tag or picture that takes more than "
            f"{LARGEST_ALLOCATION_BYTES >> 20} MiB of memory: send its sound alone, as {accepted}"
        )
    return AudioUndecodable(f"the recording cannot be read as {accepted} ({_reason(error)})")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
