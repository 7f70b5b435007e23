"""Downmix of any number of channels, whatever their layout, to one."""

import numpy as np
from numpy.typing import NDArray

WINDOWS_PER_S = 20
"""Each window of 50 ms is mixed in one way."""
CANCELLED = 1 / 32
"""Where the mean has less of the loudest channel's energy than this (-15 dB), the channels cancel each other, or most are silent."""


class Downmix:
    """The mean of the channels; in windows where that nearly cancels, the channel that has been the loudest so far.

    A balanced microphone that is recorded as stereo gives both channels in opposite phase.
    """

    def __init__(self, channels: int, rate_hz: int) -> None:
        self._window = max(1, rate_hz // WINDOWS_PER_S)
        self._energies = np.zeros(channels, np.float32)

    def __call__(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """`planes`: [channels, samples], at least one of each. Returns [samples]."""
        mixed: NDArray[np.float32] = planes.mean(axis=0)
        starts = np.arange(0, mixed.size, self._window)
        energies = np.add.reduceat(np.square(planes), starts, axis=1)
        so_far = self._energies[:, None] + energies.cumsum(axis=1)
        self._energies = so_far[:, -1]
        loudest = so_far.argmax(axis=0)
        least = CANCELLED * energies[loudest, np.arange(starts.size)]
        for window in np.flatnonzero(np.add.reduceat(np.square(mixed), starts) < least):
            part = slice(starts[window], starts[window] + self._window)
            mixed[part] = planes[loudest[window], part]
        return mixed
