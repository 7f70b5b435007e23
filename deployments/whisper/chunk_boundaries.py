"""Where a recording of more than 30 s is cut into pieces: in its pauses, by the energy of its sound alone."""

import math

import numpy as np
from numpy.typing import NDArray
from whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH, N_FRAMES

SEARCHED = 10 * FRAMES_PER_SECOND
"""A cut is looked for in so many frames before the longest that a piece may be."""
ENOUGH = 4 * FRAMES_PER_SECOND
"""In so many too, where a piece less then does: who speaks pauses every few seconds."""
LEAST = 5 * FRAMES_PER_SECOND
"""The last piece is not shorter, nor is any: of a word or two alone Whisper hears less."""
AROUND = FRAMES_PER_SECOND // 10
"""Frames before and after a moment by which it is judged: within words it is quiet for 0.1 s at most."""
QUIET = 4.0
"""As quiet as the quietest is what has up to so many times its energy: 6 dB."""
NOTHING = 16.0
"""Energy that is quiet in any case: an amplitude of 4 of 32768."""


def spans(audio: NDArray[np.int16]) -> list[tuple[int, int]]:
    """`audio`: [samples], mono 16 kHz. From which frame of mel to which each piece goes, in order: none is longer than 30 s.

    Where there is no pause, as in noise or music, a cut is where there is the least energy, and may go through a word.
    """
    levels = _levels(audio)
    frames, start, found = levels.size - 1, 0, []
    while (rest := frames - start) > N_FRAMES:
        last = min(N_FRAMES, rest - LEAST)
        first = last - SEARCHED
        fewer = rest - (math.ceil(rest / N_FRAMES) - 1) * N_FRAMES  # cut before, and it takes a piece more
        if last - fewer >= ENOUGH:
            first = max(first, fewer)
        cut = start + first + _pause(levels[start + first : start + last + 1])
        found.append((start, cut))
        start = cut
    return [*found, (start, frames)]


def _levels(audio: NDArray[np.int16]) -> NDArray[np.float64]:
    """[frames + 1]: the mean energy of a sample around the beginning of each frame of mel, and around the end of the last."""
    frames = audio.size // HOP_LENGTH
    sound = audio[: frames * HOP_LENGTH].reshape(frames, HOP_LENGTH)
    energies = np.einsum("ij,ij->i", sound, sound, dtype=np.float64)
    until = np.concatenate([[0.0], energies.cumsum()])
    moments = np.arange(frames + 1)
    first, last = (moments - AROUND).clip(0), (moments + AROUND).clip(max=frames)
    levels: NDArray[np.float64] = (until[last] - until[first]) / ((last - first).clip(1) * HOP_LENGTH)
    return levels


def _pause(levels: NDArray[np.float64]) -> int:
    """The middle of the longest stretch that is about as quiet as its quietest moment; of equal ones the last."""
    quiet = levels <= levels.min() * QUIET + NOTHING
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
    begins, ends = edges[::2], edges[1::2]
    longest = begins.size - 1 - int(np.argmax((ends - begins)[::-1]))
    return int(begins[longest] + ends[longest] - 1) // 2
