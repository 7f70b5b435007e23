"""Voice activity detection: silence and noise are refused before Whisper runs; speech is not, however quiet."""

import re
from pathlib import Path

import numpy as np
import pytest

from deployments.errors import NoSpeech
from graphs.audio.decode import decode
from graphs.audio.vad import require_speech
from testing import speech
from testing.media import RATE_HZ, Samples

TIME_S = np.arange(2 * RATE_HZ) / RATE_HZ
NOISE = np.random.default_rng(0).standard_normal(TIME_S.size)
WORDS = sorted((speech.HERE / "words").glob("*.ogg"))


def at_level(sound: np.ndarray, dbfs: float) -> Samples:
    """Scale `sound` to this root mean square, in decibels of full scale, and clip it."""
    factor = 32768 * 10 ** (dbfs / 20) / np.sqrt(np.square(sound.astype(np.float64)).mean())
    return np.clip(np.round(sound * factor), -32768, 32767).astype(np.int16)


def hum(hz: float, harmonics: int) -> np.ndarray:
    return np.sum([np.sin(2 * np.pi * hz * number * TIME_S + number) / number for number in range(1, harmonics + 1)], axis=0)


def pink() -> np.ndarray:
    """Return noise that falls by 3 dB per octave, as that of rooms and machines does."""
    spectrum = np.fft.rfft(NOISE)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(spectrum.size))), NOISE.size)


@pytest.mark.parametrize("path", [*speech.sentences(), *WORDS], ids=lambda path: path.stem)
def test_every_sentence_and_single_word_is_detected_even_when_quiet(path: Path) -> None:
    speech_audio = decode(path.read_bytes(), 60)
    require_speech(speech_audio)
    require_speech(at_level(speech_audio, -40))


def test_speech_is_detected_after_a_long_silence_and_over_noise_and_hum() -> None:
    speech_audio = at_level(decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60), -25)
    background = at_level(np.resize(NOISE + 3 * hum(50, 3), speech_audio.size), -45)
    require_speech(np.concatenate([np.zeros(3 * RATE_HZ, np.int16), speech_audio]))
    require_speech(speech_audio + background)


def test_speech_beside_one_loud_click_is_detected() -> None:
    speech_audio = at_level(decode((speech.HERE / "cat-rms.ogg").read_bytes(), 60), -35)
    click = np.full(20, 32767, np.int16)
    require_speech(np.concatenate([click, np.zeros(RATE_HZ, np.int16), speech_audio]))


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(np.zeros(RATE_HZ * 5, np.int16), id="digital silence"),
        pytest.param(np.zeros(1600, np.int16), id="a tenth of a second of it"),
        pytest.param(np.zeros(100, np.int16), id="less than the detector's step"),
        pytest.param(np.zeros(0, np.int16), id="nothing"),
        pytest.param(np.random.default_rng(1).integers(-1, 2, 5 * RATE_HZ).astype(np.int16), id="a converter's last bit"),
        pytest.param(np.full(5 * RATE_HZ, 3, np.int16), id="a constant offset"),
    ],
)
def test_silence_is_refused_with_a_hint(audio: Samples) -> None:
    with pytest.raises(NoSpeech, match="silent: check that the microphone is on"):
        require_speech(audio)


@pytest.mark.parametrize("dbfs", [-50, -10])
@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(NOISE, id="white noise"),
        pytest.param(pink(), id="pink noise"),
        pytest.param(hum(50, 1), id="hum of 50 Hz"),
        pytest.param(hum(60, 1), id="hum of 60 Hz"),
        pytest.param(hum(50, 10), id="hum of 50 Hz and its harmonics"),
        pytest.param(hum(60, 10) + 0.1 * NOISE, id="hum of 60 Hz, its harmonics and noise"),
        pytest.param(hum(1000, 1), id="a tone"),
        pytest.param(np.where(np.arange(TIME_S.size) % RATE_HZ < 20, 1.0, 0.0), id="a clock"),
    ],
)
def test_sound_without_speech_is_refused(sound: np.ndarray, dbfs: float) -> None:
    with pytest.raises(NoSpeech, match=re.compile("no speech was found|silent")):
        require_speech(at_level(sound, dbfs))
