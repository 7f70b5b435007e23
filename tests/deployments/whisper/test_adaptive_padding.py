"""Whisper without the padding to 30 s, with the weights that set-up installs."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from whisper.audio import N_FRAMES

from deployments.paths import weights_dir
from deployments.whisper import adaptive_padding
from deployments.whisper.adaptive_padding import LEAST_FRAMES, MARGIN_FRAMES, frames, repeats
from deployments.whisper.backends.torch_model import encode
from deployments.whisper.engine import WhisperEngine
from graphs.audio.decode import SAMPLE_RATE_HZ, decode
from testing import media, speech


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ([], False),
        ([1, 2, 3], False),
        ([7, 7], False),
        ([1, 7, 7, 7], True),
        ([7, 7, 7, 1], False),
        ([5, 1, 2, 1, 2, 1, 2], True),
        ([1, 2, 1, 2, 1, 3], False),
        (list(range(12)) * 3, True),
        (list(range(13)) * 3, False),
    ],
)
def test_the_same_tokens_three_times_in_a_row_are_a_repeat(tokens: list[int], found: bool) -> None:
    assert repeats(tokens) is found


def test_the_encoder_is_given_what_is_spoken_and_a_margin() -> None:
    assert frames(1) == frames(LEAST_FRAMES - MARGIN_FRAMES) == LEAST_FRAMES
    assert frames(2000) == 2000 + MARGIN_FRAMES
    assert frames(N_FRAMES - MARGIN_FRAMES) == frames(N_FRAMES) == N_FRAMES


class Tiny:
    """tiny.en, and how many positions its encoder is given each time."""

    def __init__(self, padding: str) -> None:
        self.engine = WhisperEngine("tiny.en", weights_dir("whisper"), padding=padding)
        self.positions: list[int] = []
        self.engine._model.encoder.ln_post.register_forward_hook(
            lambda module, inputs, output: self.positions.append(output.shape[1])
        )

    def hear(self, audio: NDArray[np.int16], **options: Any) -> str:
        self.positions.clear()
        return self.engine.transcribe(audio, **options).text


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny("in doubt")


@pytest.fixture(scope="module")
def padded() -> Tiny:
    return Tiny("always")


CAT = decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60)


def test_a_short_recording_costs_the_encoder_as_much_as_it_is_long(tiny: Tiny, padded: Tiny) -> None:
    assert tiny.hear(CAT) == padded.hear(CAT) == "A black cat sleeping on a blue sofa."
    assert (tiny.positions, padded.positions) == ([LEAST_FRAMES // 2], [1500])


@pytest.mark.slow
def test_the_last_window_of_a_long_one_is_short_too(tiny: Tiny, padded: Tiny) -> None:
    audio = decode(media.minute(), 60)[: 34 * SAMPLE_RATE_HZ]
    assert tiny.hear(audio).split()[:20] == padded.hear(audio).split()[:20]
    assert tiny.positions[0] == padded.positions[0] == 1500
    assert tiny.positions[-1] == LEAST_FRAMES // 2


def test_in_doubt_it_hears_the_padded_window_as_openai_whisper_does(
    tiny: Tiny, padded: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_padding, "TOKENS", 0)
    monkeypatch.setattr(adaptive_padding, "TOKENS_A_SECOND", 0)
    assert tiny.hear(CAT) == padded.hear(CAT)
    assert tiny.positions == [LEAST_FRAMES // 2, 1500]


@pytest.mark.slow
def test_a_model_that_repeats_itself_is_stopped(tiny: Tiny, padded: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second encoded as such makes it say the same without end."""
    monkeypatch.setattr(adaptive_padding, "LEAST_FRAMES", 60)
    monkeypatch.setattr(adaptive_padding, "MARGIN_FRAMES", 0)
    audio = CAT[: CAT.size // 3]
    assert tiny.hear(audio) == padded.hear(audio)
    assert tiny.positions[-1] == 1500


@pytest.mark.slow
def test_what_is_left_after_the_last_timestamp_is_heard_only_if_it_can_be_a_word(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of these three sentences 0.08 s are left, in which the model would hear "He might even have a", and padded loop to its last token."""
    parts = [
        decode(next(speech.HERE.rglob(f"{name}.ogg")).read_bytes(), 60) for name in ("austen-0930", "green-tea-rms", "cards-003")
    ]
    tiny.hear(np.concatenate(parts), language="en")
    assert tiny.positions == [LEAST_FRAMES // 2]
    monkeypatch.setattr(adaptive_padding, "LEFT_FRAMES", 1)
    tiny.hear(np.concatenate(parts), language="en")
    assert len(tiny.positions) > 1


@pytest.mark.slow
def test_a_temperature_of_the_callers_own_is_for_the_padded_window(tiny: Tiny) -> None:
    tiny.hear(CAT, temperature=0.5)
    assert tiny.positions == [1500]


@pytest.mark.slow
def test_thirty_seconds_are_encoded_as_openai_whisper_encodes_them(tiny: Tiny) -> None:
    encoder = tiny.engine._model.encoder
    mel = torch.randn(80, N_FRAMES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(encode(encoder, mel[None], lambda: [True]), encoder(mel[None]))


@pytest.mark.slow
def test_real_voices_are_understood_as_well(tiny: Tiny, padded: Tiny) -> None:
    from benchmarks.hearing import errors, normal

    folder = speech.HERE / "real"
    worse = []
    for name, text in json.loads((folder / "said.json").read_text()).items():
        audio, said = decode((folder / name).read_bytes(), 60), normal(text)
        heard, stock = (normal(engine.hear(audio, language="en")) for engine in (tiny, padded))
        if errors(said, heard) > errors(said, stock):
            worse.append(name)
    assert len(worse) <= 1, worse
