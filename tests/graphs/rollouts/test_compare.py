"""Comparison of two results: words in any script, quality metrics of a transcript and a picture, and the pictures' differences."""

import io
import math
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deployments.roles.speech_to_text import Segment, Transcript
from deployments.roles.text_to_image import Image
from graphs.rollouts.compare import QualityMetrics, compare, quality_metrics, ssim, words
from graphs.rollouts.observations import Pair
from testing.fakes import transcript

texts = st.text(max_size=40) | st.lists(st.sampled_from(("a", "red", "apple", "猫")), max_size=12).map(" ".join)


def picture(pixels: NDArray[np.uint8], format: str = "PNG") -> Image:
    encoded = io.BytesIO()
    PIL.Image.fromarray(pixels).save(encoded, format)
    return Image(encoded.getvalue(), pixels.shape[1], pixels.shape[0], prompt_truncated=False, encode_ms=1.0)


def noise(seed: int, height: int = 64, width: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def plain(level: int) -> NDArray[np.uint8]:
    return np.full((64, 64, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" … ?! ", []),
        ("A red, RED apple.", ["a", "red", "red", "apple"]),
        ("Don't—don’t", ["dont", "dont"]),
        ("well-known 3.14", ["well", "known", "3", "14"]),
        ("Straße ÉTÉ e\u0301te\u0301", ["strasse", "été", "été"]),
        ("ﬁn ＡＢＣ", ["fin", "abc"]),
        ("我喜欢 iPhone 手机。", ["我", "喜", "欢", "iphone", "手", "机"]),
        ("ねこ、ネコ", ["ね", "こ", "ネ", "コ"]),
        ("แมว", ["แ", "ม", "ว"]),
        ("고양이 두 마리", ["고양이", "두", "마리"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("«¿Qué?» “oui”", ["qué", "oui"]),
    ],
)
def test_words_of_any_script(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("stable", "candidate", "count", "errors"),
    [
        ("a red apple", "A red apple!", 3, 0),
        ("a red apple", "a read apple", 3, 1),
        ("a red apple", "a red", 3, 1),
        ("a red apple", "a big red apple", 3, 1),
        ("a red apple", "", 3, 3),
        ("", "thank you", 0, 2),
        ("我喜欢猫", "我喜欢狗。", 4, 1),
    ],
)
def test_word_errors_are_insertions_deletions_and_replacements(stable: str, candidate: str, count: int, errors: int) -> None:
    assert compare(transcript(stable), transcript(candidate)) == Pair(words=count, word_errors=errors)


@given(texts, texts)
def test_edits_are_symmetric_and_bounded(one: str, other: str) -> None:
    there, back = compare(transcript(one), transcript(other)), compare(transcript(other), transcript(one))
    assert there.word_errors == back.word_errors
    assert abs(there.words - back.words) <= there.word_errors <= max(there.words, back.words)
    assert compare(transcript(one), transcript(one)).word_errors == 0


@given(texts)
def test_any_text_has_quality_metrics(text: str) -> None:
    assert quality_metrics(transcript(text)).empty == (not text.strip())


def test_a_lone_surrogate_has_quality_metrics() -> None:
    assert quality_metrics(transcript("\ud800")) == QualityMetrics(logprob=-0.25)


def test_a_transcript_that_repeats_itself_is_repetitive_and_a_sentence_is_not() -> None:
    assert quality_metrics(transcript("thank you for watching. " * 10)).repetitive
    assert not quality_metrics(transcript("a red apple on a wooden table, next to a small glass of water")).repetitive


def test_the_log_probability_is_the_segments_by_their_length() -> None:
    segments = (Segment(0.0, 1.0, "a" * 30, -0.1, 0.0), Segment(1.0, 2.0, "b" * 10, -0.5, 0.0), Segment(2.0, 3.0, "", -9.0, 0.0))
    assert quality_metrics(Transcript("ab", "en", segments)).logprob == pytest.approx(-0.2)
    assert quality_metrics(Transcript("", "en", ())).logprob is None


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_of_one_colour_is_empty(format: str) -> None:
    assert quality_metrics(picture(plain(0), format)).empty
    assert quality_metrics(picture(plain(137), format)).empty
    assert not quality_metrics(picture(noise(1), format)).empty


def test_a_small_stroke_is_not_empty() -> None:
    pixels = plain(255)
    pixels[30:32, 30:32] = 0
    assert not quality_metrics(picture(pixels)).empty


def test_the_same_picture_does_not_drift() -> None:
    assert compare(picture(noise(1)), picture(noise(1))) == Pair(pixels=0.0, picture=pytest.approx(0.0))


def test_black_and_white_drift_by_the_whole_range() -> None:
    found = compare(picture(plain(0)), picture(plain(255)))
    assert found.pixels == pytest.approx(1.0)
    assert found.picture == pytest.approx(1.0, abs=1e-3)


def test_the_drift_of_pixels_is_the_root_mean_square() -> None:
    one, other = noise(1), noise(2)
    expected = math.sqrt(np.mean(np.square(one.astype(float) - other))) / 255
    assert compare(picture(one), picture(other)).pixels == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 90), st.integers(8, 40), st.integers(0, 60))
def test_ssim_is_the_papers_formula_over_every_window(height: int, width: int, change: int) -> None:
    random = np.random.default_rng(height * width)
    one = random.integers(0, 256, (height, width)).astype(np.uint8)
    other = np.clip(one + random.normal(0, change, one.shape), 0, 255).astype(np.uint8)
    x, y = (sliding_window_view(image.astype(float), (8, 8)) for image in (one, other))
    mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
    covariance = (x * y).mean((2, 3)) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    below = (mean_x**2 + mean_y**2 + c1) * (x.var((2, 3)) + y.var((2, 3)) + c2)
    expected = np.mean((2 * mean_x * mean_y + c1) * (2 * covariance + c2) / below)
    assert ssim(one, other) == pytest.approx(expected, abs=1e-9)
    assert ssim(one, other) == ssim(other, one)


def test_a_picture_smaller_than_a_window_is_compared() -> None:
    assert ssim(np.zeros((1, 3), np.uint8), np.zeros((1, 3), np.uint8)) == pytest.approx(1.0)


def test_more_noise_drifts_more() -> None:
    smooth = np.asarray(PIL.Image.fromarray(noise(1, 8, 8)).resize((64, 64)))
    changed = [
        np.clip(smooth + np.random.default_rng(2).normal(0, sigma, smooth.shape), 0, 255).astype(np.uint8) for sigma in (2, 9)
    ]
    little, much = (compare(picture(smooth), picture(pixels)) for pixels in changed)
    assert 0 < little.pixels < much.pixels < 1
    assert 0 < little.picture < much.picture < 1


@pytest.mark.parametrize(
    ("candidate", "sentence"),
    [
        (picture(noise(1, 32, 32)), "another shape: the candidate's image has 32x32 pixels, the stable model's 48x64"),
        (replace(picture(noise(1)), width=64), "another shape: the file has 48x64 pixels, its description 64x64"),
        (replace(picture(noise(1)), encoded=b""), "the image of 0 bytes cannot be decoded"),
        (replace(picture(noise(1)), encoded=picture(noise(1)).encoded[:500]), "the image of 500 bytes cannot be decoded"),
        (replace(picture(noise(1)), encoded=b"not an image"), "the image of 12 bytes cannot be decoded"),
        (transcript(), "Image is of the class Transcript, not Image"),
        (None, "Image is of the class NoneType, not Image"),
    ],
)
def test_a_candidate_of_another_shape_is_refused(candidate: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compare(picture(noise(1)), candidate)


def test_a_candidate_whose_numbers_are_not_finite_is_refused() -> None:
    broken = replace(transcript(), segments=(Segment(0.0, 1.0, "a", math.nan, 0.0),))
    with pytest.raises(ValueError, match="avg_logprob is nan"):
        compare(transcript(), broken)


def test_a_result_of_another_role_has_neither_quality_metrics_nor_differences() -> None:
    pair = Pair(words=1)
    assert quality_metrics(pair) == QualityMetrics()
    assert compare(pair, pair) == Pair()
