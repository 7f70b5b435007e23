"""Downmix of any number of channels, whatever their layout, to one."""

import numpy as np
from numpy.typing import NDArray

WINDOWS_PER_S = 20
"""Each window of 50 ms is mixed in one way."""
FAINT = 1 / 32
"""Where the mean has less than this (-15 dB) of the energy of the loudest channel, most channels are silent, or cancel each other."""
OPPOSED = 0.5
"""The same where it has less than this of the mean's energy if the channels were unrelated: the channels' own mean by their number."""
LOUDER = 1.5
"""A channel takes the place of the loudest one where it has so many times its energy: a change between opposed channels is a click."""


class Downmix:
    """The mean of the channels; in windows where channels cancel each other, the one that has been the loudest so far.

    A balanced microphone that is recorded as stereo gives both channels in opposite phase.
    """

    def __init__(self, channels: int, rate_hz: int) -> None:
        self._window = max(1, rate_hz // WINDOWS_PER_S)
        self._energies = np.zeros(channels, np.float32)
        self._loudest = 0

    def __call__(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """`planes`: [channels, samples], at least one of each. Returns [samples]."""
        mixed: NDArray[np.float32] = planes.mean(axis=0)
        starts = np.arange(0, mixed.size, self._window)
        energies = np.add.reduceat(np.square(planes), starts, axis=1)
        self._energies += energies.sum(axis=1)
        loudest = int(self._energies.argmax())
        if self._energies[loudest] > LOUDER * self._energies[self._loudest]:
            self._loudest = loudest
        own, of_mean, usual = energies[self._loudest], np.add.reduceat(np.square(mixed), starts), energies.mean(axis=0)
        opposed = (of_mean < OPPOSED * usual / len(planes)) & (own >= 0.9 * usual)
        for window in np.flatnonzero(opposed | (of_mean < FAINT * own)):
            part = slice(starts[window], starts[window] + self._window)
            mixed[part] = planes[self._loudest, part]
        return mixed
