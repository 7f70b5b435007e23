"""Whisper without the padding to 30 s, with the weights that set-up installs."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from whisper.audio import N_FRAMES

from deployments.roles.speech_to_text import TranscribeRequest
from deployments.whisper import adaptive_padding
from deployments.whisper.adaptive_padding import MARGIN_FRAMES, MIN_FRAMES, is_repeating, padded_frames
from deployments.whisper.backends.torch_model import encode
from graphs.audio.decode import SAMPLE_RATE_HZ, decode
from testing import media, speech, tiny_whisper

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("tokens", "repeating"),
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
def test_the_same_tokens_three_times_in_a_row_are_a_repetition(tokens: list[int], repeating: bool) -> None:
    assert is_repeating(tokens) is repeating


def test_the_encoder_reads_the_window_and_a_margin() -> None:
    assert padded_frames(1) == padded_frames(MIN_FRAMES - MARGIN_FRAMES) == MIN_FRAMES
    assert padded_frames(2000) == 2000 + MARGIN_FRAMES
    assert padded_frames(N_FRAMES - MARGIN_FRAMES) == padded_frames(N_FRAMES) == N_FRAMES


class Tiny:
    """tiny.en, and the positions of each call of its encoder."""

    def __init__(self, padding: str) -> None:
        self.engine = tiny_whisper.load(padding=padding)
        self.positions: list[int] = []
        self.engine._model.encoder.ln_post.register_forward_hook(
            lambda module, inputs, output: self.positions.append(output.shape[1])
        )

    def text(self, audio: NDArray[np.int16], **options: Any) -> str:
        self.positions.clear()
        return self.engine.transcribe(TranscribeRequest(audio, **options)).text


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny("adaptive")


@pytest.fixture(scope="module")
def padded() -> Tiny:
    return Tiny("always")


CAT = decode((speech.HERE / "cat-slt.ogg").read_bytes(), 60)


def test_a_short_recording_is_encoded_at_its_own_length(tiny: Tiny, padded: Tiny) -> None:
    assert tiny.text(CAT) == padded.text(CAT) == "A black cat sleeping on a blue sofa."
    assert (tiny.positions, padded.positions) == ([MIN_FRAMES // 2], [1500])


@pytest.mark.slow
def test_the_last_window_of_a_long_recording_is_short_too(tiny: Tiny, padded: Tiny) -> None:
    audio = decode(media.minute(), 60)[: 34 * SAMPLE_RATE_HZ]
    assert tiny.text(audio).split()[:20] == padded.text(audio).split()[:20]
    assert tiny.positions[0] == padded.positions[0] == 1500
    assert tiny.positions[-1] == MIN_FRAMES // 2


def test_a_doubtful_text_is_decoded_again_from_the_padded_window(
    tiny: Tiny, padded: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_padding, "BASE_TOKENS", 0)
    monkeypatch.setattr(adaptive_padding, "TOKENS_PER_SECOND", 0)
    assert tiny.text(CAT) == padded.text(CAT)
    assert tiny.positions == [MIN_FRAMES // 2, 1500]


@pytest.mark.slow
def test_a_repeating_text_is_decoded_again_from_the_padded_window(
    tiny: Tiny, padded: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second encoded as such makes it repeat itself without end."""
    monkeypatch.setattr(adaptive_padding, "MIN_FRAMES", 60)
    monkeypatch.setattr(adaptive_padding, "MARGIN_FRAMES", 0)
    audio = CAT[: CAT.size // 3]
    assert tiny.text(audio) == padded.text(audio)
    assert tiny.positions[-1] == 1500


@pytest.mark.slow
def test_a_remainder_after_the_last_timestamp_is_decoded_only_if_it_can_be_a_word(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of these three sentences 0.08 s remain: the model would make "He might even have a" of them, and padded loop to its last token."""
    parts = [
        decode(next(speech.HERE.rglob(f"{name}.ogg")).read_bytes(), 60) for name in ("austen-0930", "green-tea-rms", "cards-003")
    ]
    tiny.text(np.concatenate(parts), language="en")
    assert tiny.positions == [MIN_FRAMES // 2]
    monkeypatch.setattr(adaptive_padding, "MIN_REMAINDER_FRAMES", 1)
    tiny.text(np.concatenate(parts), language="en")
    assert len(tiny.positions) > 1


@pytest.mark.slow
def test_a_temperature_of_the_caller_is_for_the_padded_window(tiny: Tiny) -> None:
    tiny.text(CAT, temperature=0.5)
    assert tiny.positions == [1500]


@pytest.mark.slow
def test_thirty_seconds_are_encoded_as_in_openai_whisper(tiny: Tiny) -> None:
    encoder = tiny.engine._model.encoder
    mel = torch.randn(80, N_FRAMES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(encode(encoder, mel[None], lambda: [True]), encoder(mel[None]))


@pytest.mark.slow
def test_real_speech_is_recognized_as_well_as_with_padding(tiny: Tiny, padded: Tiny) -> None:
    from benchmarks.padding import normal, word_errors

    folder = speech.HERE / "real"
    worse = []
    for name, text in json.loads((folder / "transcripts.json").read_text()).items():
        audio, words = decode((folder / name).read_bytes(), 60), normal(text)
        ours, stock = (normal(engine.text(audio, language="en")) for engine in (tiny, padded))
        if word_errors(words, ours) > word_errors(words, stock):
            worse.append(name)
    assert len(worse) <= 1, worse
