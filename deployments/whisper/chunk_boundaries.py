"""Boundaries of the chunks of a recording of more than 30 s: in its pauses, by the energy of the audio alone."""

import math

import numpy as np
from numpy.typing import NDArray
from whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH, N_FRAMES

SEARCH_FRAMES = 10 * FRAMES_PER_SECOND
"""A boundary is searched in so many frames before the longest possible end of a chunk."""
MIN_SEARCH_FRAMES = 4 * FRAMES_PER_SECOND
"""A shorter search suffices where it saves a chunk: speech pauses every few seconds."""
MIN_CHUNK_FRAMES = 5 * FRAMES_PER_SECOND
"""No chunk is shorter, the last one neither: of a word or two alone Whisper recognizes less."""
ENERGY_FRAMES = FRAMES_PER_SECOND // 10
"""Frames before and after a moment that count for its energy: within words it is quiet for 0.1 s at most."""
PAUSE_ENERGY_RATIO = 4.0
"""Energy up to so many times that of the quietest moment belongs to a pause: 6 dB."""
SILENCE_ENERGY = 16.0
"""Energy that is quiet in any case: an amplitude of 4 of 32768."""


def chunk_spans(audio: NDArray[np.int16]) -> list[tuple[int, int]]:
    """First and last frame of mel of each chunk, in order, none longer than 30 s. `audio`: [samples], mono 16 kHz.

    Without a pause, as in noise or music, the boundary has the least energy, and may go through a word.
    """
    levels = _levels(audio)
    frames, start, spans = levels.size - 1, 0, []
    while (rest := frames - start) > N_FRAMES:
        last = min(N_FRAMES, rest - MIN_CHUNK_FRAMES)
        first = last - SEARCH_FRAMES
        extra = rest - (math.ceil(rest / N_FRAMES) - 1) * N_FRAMES  # an earlier boundary costs a chunk more
        if last - extra >= MIN_SEARCH_FRAMES:
            first = max(first, extra)
        boundary = start + first + _pause(levels[start + first : start + last + 1])
        spans.append((start, boundary))
        start = boundary
    return [*spans, (start, frames)]


def _levels(audio: NDArray[np.int16]) -> NDArray[np.float64]:
    """[frames + 1]: the mean energy of a sample around the beginning of each frame of mel, and around the end of the last."""
    frames = audio.size // HOP_LENGTH
    samples = audio[: frames * HOP_LENGTH].reshape(frames, HOP_LENGTH)
    energies = np.einsum("ij,ij->i", samples, samples, dtype=np.float64)
    cumulative = np.concatenate([[0.0], energies.cumsum()])
    moments = np.arange(frames + 1)
    first, last = (moments - ENERGY_FRAMES).clip(0), (moments + ENERGY_FRAMES).clip(max=frames)
    levels: NDArray[np.float64] = (cumulative[last] - cumulative[first]) / ((last - first).clip(1) * HOP_LENGTH)
    return levels


def _pause(levels: NDArray[np.float64]) -> int:
    """The middle of the longest stretch that is about as quiet as its quietest moment; of equal ones the last."""
    quiet = levels <= levels.min() * PAUSE_ENERGY_RATIO + SILENCE_ENERGY
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
    begins, ends = edges[::2], edges[1::2]
    longest = begins.size - 1 - int(np.argmax((ends - begins)[::-1]))
    return int(begins[longest] + ends[longest] - 1) // 2
