"""Untrusted media to samples, in process, by FFmpeg through PyAV: nothing is opened but the bytes that came."""

import ctypes
import io
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from graphs.http.errors import AudioEmpty, AudioTooLong, AudioUndecodable

SAMPLE_RATE_HZ = 16_000
FORMAT = "s16"
"""FFmpeg's name of int16."""
SHORTEST_S = 0.1
HIGHEST_RATE_HZ = 384_000
"""The highest that is recorded with. A resampler's filter grows with the rate: at 1 GHz it takes gigabytes and half a minute."""
CONTAINERS = "wav,mp3,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,aac"
"""FFmpeg's names of the demuxers that may run. Playlists, lists of files and the like are not among them."""
CODECS = {"mp3", "mp3float", "flac", "opus", "libopus", "vorbis", "aac", "aac_fixed", "alac"}
"""FFmpeg's names of the decoders that may run, besides those of PCM."""
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none", "enable_drefs": "0", "use_absolute_path": "0"}
"""No protocol exists under the name `none`: what a container refers to outside of itself cannot be opened."""

LARGEST_ALLOCATION_BYTES = 64 * 1024 * 1024
"""FFmpeg allocates what a header claims, by default up to 2 GB: a wav of 56 bytes sufficed. Album pictures are the most that is due."""


def _bound_allocations() -> None:
    """Of FFmpeg in this whole process. PyAV has no function for it; its wheel keeps FFmpeg's libraries beside itself."""
    (library,) = Path(av.__file__).parents[1].glob("av.libs/libavutil*")
    ctypes.CDLL(str(library)).av_max_alloc(ctypes.c_size_t(LARGEST_ALLOCATION_BYTES))


_bound_allocations()


def decode(recording: bytes, max_audio_s: float) -> NDArray[np.int16]:
    """int16 [samples], mono 16 kHz. The content decides what it is.

    Stops at the limit, however long the recording claims or turns out to be.
    Raises AudioEmpty, AudioTooLong, AudioUndecodable.
    """
    if not recording:
        raise AudioEmpty("the recording is empty: 0 bytes came")
    chunks: list[NDArray[np.int16]] = []
    try:
        with av.open(io.BytesIO(recording), mode="r", options=OPTIONS) as container:
            _read(container, max_audio_s, chunks)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        # What came before the damage is used: players do the same with a file that was cut short.
        if not chunks:
            raise AudioUndecodable(
                f"the recording cannot be read as wav, mp3, flac, ogg, opus, webm or m4a ({_reason(error)})"
            ) from error
    audio = np.concatenate(chunks) if chunks else np.zeros(0, np.int16)
    if audio.size < SHORTEST_S * SAMPLE_RATE_HZ:
        raise AudioEmpty(f"the recording holds {audio.size / SAMPLE_RATE_HZ:.2f} s of sound; at least {SHORTEST_S} s is needed")
    return audio


def _read(container: Any, max_audio_s: float, chunks: list[NDArray[np.int16]]) -> None:
    if not container.streams.audio:
        raise AudioUndecodable("the recording has no audio track")
    stream = container.streams.audio[0]
    codec = stream.codec_context.name if stream.codec_context else ""
    if codec not in CODECS and not codec.startswith("pcm_"):
        raise AudioUndecodable("the recording's audio codec is none of mp3, flac, opus, vorbis, aac, alac and PCM")
    stream.codec_context.thread_count = 1
    resampler = av.AudioResampler(format=FORMAT, layout="mono", rate=SAMPLE_RATE_HZ)
    left = int(max_audio_s * SAMPLE_RATE_HZ)
    for frame in container.decode(stream):
        if frame.sample_rate > HIGHEST_RATE_HZ:
            raise AudioUndecodable(
                f"the recording claims a sample rate of {frame.sample_rate} Hz; at most {HIGHEST_RATE_HZ} is read"
            )
        # A frame of few bytes can stand for hours at a rate of a few Hz: asked before it is resampled.
        if frame.samples > (left / SAMPLE_RATE_HZ + 1) * frame.sample_rate:
            raise _too_long(max_audio_s)
        as_it_is = (frame.format.name, frame.layout.nb_channels, frame.sample_rate) == (FORMAT, 1, SAMPLE_RATE_HZ)
        left -= _keep([frame] if as_it_is else resampler.resample(frame), chunks)
        if left < 0:
            raise _too_long(max_audio_s)
    if _keep(resampler.resample(None), chunks) > left:
        raise _too_long(max_audio_s)


def _keep(frames: list[Any], chunks: list[NDArray[np.int16]]) -> int:
    new = [frame.to_ndarray().reshape(-1) for frame in frames]
    chunks.extend(new)
    return sum(chunk.size for chunk in new)


def _too_long(max_audio_s: float) -> AudioTooLong:
    return AudioTooLong(f"the recording is longer than {max_audio_s:g} s, the limit of this service: send a shorter one")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
