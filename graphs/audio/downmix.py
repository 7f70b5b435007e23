"""Downmix of any number of channels, whatever their layout, to one."""

import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ

WINDOW = SAMPLE_RATE_HZ // 20
"""Samples, 50 ms, that are mixed in one way."""
CANCELLED = 1 / 32
"""Where the mean has less of the loudest channel's energy than this (-15 dB), the channels cancel each other, or most are silent."""


class Downmix:
    """The mean of the channels; in windows where that nearly cancels, the channel that has been the loudest so far.

    A balanced microphone that is recorded as stereo gives both channels in opposite phase.
    """

    def __init__(self, channels: int) -> None:
        self._energies = np.zeros(channels)

    def __call__(self, block: NDArray[np.int16]) -> NDArray[np.int16]:
        """`block`: [samples, channels], at least one of each. Returns [samples]."""
        exact = block.astype(np.float32)
        mean = exact.mean(axis=1)
        starts = np.arange(0, len(block), WINDOW)
        energies = np.add.reduceat(np.square(exact), starts, axis=0)
        so_far = self._energies + energies.cumsum(axis=0)
        self._energies = so_far[-1]
        loudest = so_far.argmax(axis=1)
        least = CANCELLED * energies[np.arange(len(starts)), loudest]
        mixed: NDArray[np.int16] = np.rint(mean).astype(np.int16)
        for window in np.flatnonzero(np.add.reduceat(np.square(mean), starts) < least):
            part = slice(starts[window], starts[window] + WINDOW)
            mixed[part] = block[part, loudest[window]]
        return mixed
