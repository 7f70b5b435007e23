"""Frames of one track as mono 16 kHz: mixed, resampled, and bounded in their number."""

from collections.abc import Callable
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ
from graphs.audio.downmix import Downmix
from graphs.audio.errors import AudioTooLong, AudioUndecodable
from graphs.audio.job import LONGEST_PADDING_S

FORMAT = "s16"
"""FFmpeg's name of int16."""
INTERLEAVED = "flt"
"""Its name of float32, a value of each channel after another. PyAV cannot read more than 8 planes."""
HIGHEST_RATE_HZ = 384_000
"""The highest rate of recording equipment. A resampler's filter grows with the rate: at 1 GHz it takes gigabytes and half a minute."""
MOST_CHANNELS = 64
PADDING_FRAMES = 4
"""Longest padding of a codec that is not exact, at both ends together: AAC's is 2112 samples and the rest of a frame of 1024."""
BLOCK_S = 0.25
"""Sound that is mixed at once."""


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
        limit = f"{self._max_duration_s:g} s (setting audio.max_duration_s)"
        return AudioTooLong(f"the recording is longer than {limit}: send a shorter one")


class Mono:
    """The frames' sound, appended to `samples`. Their format may change: each has a resampler of its own, which is flushed at its end."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._format: tuple[str, str, int] | None = None
        self._mixer: _Mixer | None = None
        self._resampler: Any = None
        self._padding_s = 0.0
        self.exact = False
        """Whether the codec pads nothing."""

    def append(self, frame: Any) -> None:
        """Raise AudioTooLong, and AudioUndecodable for an impossible format."""
        rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
        if rate_hz > HIGHEST_RATE_HZ:
            raise AudioUndecodable(
                f"the recording claims a sample rate of {rate_hz} Hz; at most {HIGHEST_RATE_HZ} is read: resample it"
            )
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
            self._format = format
            as_it_is = channels == 1 and frame.format.name == FORMAT and rate_hz == SAMPLE_RATE_HZ
            self._resampler = None if as_it_is else av.AudioResampler(format=FORMAT, layout="mono", rate=SAMPLE_RATE_HZ)
            self._mixer = _Mixer(frame) if channels > 1 else None
        if self._mixer is None:
            self._keep(frame)
        else:
            self._mixer.write(frame)
            while self._mixer.samples >= self._mixer.block:
                self._keep(self._mixer.read())

    def flush(self) -> None:
        """Append what the mixer and the resampler hold."""
        mixer, self._mixer = self._mixer, None
        while mixer is not None and mixer.samples:
            self._keep(mixer.read())
        if self._resampler is not None:
            self._keep(None)
            self._resampler = None

    def _keep(self, frame: Any) -> None:
        """Copy the samples: a frame that was kept would hold FFmpeg's buffers."""
        for one in [frame] if self._resampler is None else self._resampler.resample(frame):
            self._samples.append(
                memoryview(one.planes[0])[: 2 * one.samples], self._padding_s
            )  # a plane is longer than its samples


class _Mixer:
    """Frames of several channels, in one format, as frames of one channel."""

    def __init__(self, frame: Any) -> None:
        self._rate_hz = frame.sample_rate
        self._fifo = av.AudioFifo()
        self._channels = frame.layout.nb_channels
        self._to_floats = av.AudioResampler(format=INTERLEAVED, layout=frame.layout, rate=frame.sample_rate)
        self._downmix = Downmix(self._channels, frame.sample_rate)
        self.block = max(1, int(BLOCK_S * frame.sample_rate))
        """Samples that are mixed at once."""

    @property
    def samples(self) -> int:
        return int(self._fifo.samples)

    def write(self, frame: Any) -> None:
        frame.pts = None  # or the queue refuses a gap
        self._fifo.write(frame)

    def read(self) -> Any:
        """A block, or the shorter rest."""
        (block,) = self._to_floats.resample(self._fifo.read(min(self.block, self.samples)))
        values: Any = block.to_ndarray()
        mixed = self._downmix(np.ascontiguousarray(values.reshape(-1, self._channels).T))
        frame = av.AudioFrame.from_ndarray(mixed.reshape(1, -1), format=INTERLEAVED, layout="mono")
        frame.sample_rate = self._rate_hz
        return frame
