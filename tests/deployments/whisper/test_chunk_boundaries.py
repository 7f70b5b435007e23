"""Boundaries of chunks: together they are the whole recording, none is above 30 s, and a boundary is in a pause if there is one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.whisper.chunk_boundaries import MIN_CHUNK_FRAMES, SEARCH_FRAMES, chunk_spans

pytestmark = pytest.mark.torch

RATE_HZ = 16_000
FRAMES_PER_SECOND = 100
Audio = NDArray[np.int16]


def noise(seconds: float, loud: int) -> Audio:
    return np.random.default_rng(0).integers(-loud, loud + 1, round(seconds * RATE_HZ)).astype(np.int16)


def boundaries_s(spans: list[tuple[int, int]]) -> list[float]:
    """Seconds of the boundaries between chunks."""
    return [end / FRAMES_PER_SECOND for _, end in spans[:-1]]


def with_pauses(length_s: float, *pauses: tuple[float, float], loud: int = 6000, faint: int = 0) -> Audio:
    """Loud noise with pauses of (from, to) seconds."""
    audio = noise(length_s, loud)
    for first_s, last_s in pauses:
        pause = slice(round(first_s * RATE_HZ), round(last_s * RATE_HZ))
        audio[pause] = noise(length_s, faint)[pause]
    return audio


@pytest.mark.parametrize("length_s", [0.1, 29.9, 30.0, 30.004])
def test_a_recording_of_one_window_is_one_chunk(length_s: float) -> None:
    audio = noise(length_s, 3000)
    assert chunk_spans(audio) == [(0, audio.size // 160)]


@pytest.mark.parametrize("faint", [0, 3, 300])
def test_a_boundary_is_in_the_middle_of_the_pause(faint: int) -> None:
    (boundary_s,) = boundaries_s(chunk_spans(with_pauses(50, (23.0, 24.0), faint=faint)))
    assert boundary_s == pytest.approx(23.5, abs=0.1)


@pytest.mark.parametrize(
    ("pauses", "middle_s"),
    [
        pytest.param([(22.0, 22.4), (24.0, 25.0), (27.0, 27.2)], 24.5, id="the longest"),
        pytest.param([(24.0, 24.5), (27.0, 27.5)], 27.25, id="of equal ones the last"),
        pytest.param([(12.0, 18.0), (26.0, 26.5)], 26.25, id="not one that is early"),
        pytest.param([(24.0, 24.06), (26.0, 26.3)], 26.15, id="not a stop within a word"),
    ],
)
def test_of_several_pauses_the_longest_or_the_last_is_taken(pauses: list[tuple[float, float]], middle_s: float) -> None:
    assert boundaries_s(chunk_spans(with_pauses(50, *pauses))) == [pytest.approx(middle_s, abs=0.06)]


def test_a_pause_may_have_noise_that_is_not_even() -> None:
    audio = with_pauses(50, (22.0, 23.0), (26.0, 26.5), faint=100)
    audio[round(26.2 * RATE_HZ) : round(26.24 * RATE_HZ)] = 0  # a noise gate that closes for a moment
    assert boundaries_s(chunk_spans(audio)) == [pytest.approx(22.5, abs=0.1)]


def test_there_are_no_more_chunks_than_needed_where_that_leaves_a_choice() -> None:
    assert len(chunk_spans(with_pauses(54, (20.5, 22.5), (26.0, 26.3)))) == 2
    assert len(chunk_spans(with_pauses(59.5, (22.0, 22.5), (44.0, 44.5)))) == 3, "only at 29.5 to 30 s there would be two"


def test_the_last_chunk_is_not_too_short() -> None:
    for length_s in (30.01, 31, 33, 36):
        spans = chunk_spans(with_pauses(length_s, (29.2, 29.9)))
        assert len(spans) == 2
        assert all(last - first >= MIN_CHUNK_FRAMES for first, last in spans)


def test_a_recording_without_pauses_has_boundaries_too() -> None:
    """The squares of the loudest samples overflow their type."""
    for audio in (noise(100, 3000), np.full(100 * RATE_HZ, -32768, np.int16), np.zeros(100 * RATE_HZ, np.int16)):
        spans = chunk_spans(audio)
        assert spans[0][0] == 0
        assert spans[-1][1] == 10_000
        assert 4 <= len(spans) <= 5


def test_a_boundary_in_music_is_where_it_is_softest() -> None:
    beat = np.abs(np.sin(np.arange(80 * RATE_HZ) / RATE_HZ * np.pi / 2)) + 0.05  # soft each 2 s
    for boundary_s in boundaries_s(chunk_spans((noise(80, 6000) * beat).astype(np.int16))):
        assert boundary_s % 2 == pytest.approx(0, abs=0.15) or boundary_s % 2 == pytest.approx(2, abs=0.15)


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 130 * RATE_HZ),
    pauses=st.lists(st.tuples(st.floats(0, 130), st.floats(0.05, 60)), max_size=8),
    loud=st.sampled_from([0, 1, 40, 20_000]),
)
def test_the_chunks_are_the_whole_recording(length: int, pauses: list[tuple[float, float]], loud: int) -> None:
    audio = np.resize(noise(7, loud), length)
    for first_s, long_s in pauses:
        audio[round(first_s * RATE_HZ) : round((first_s + long_s) * RATE_HZ)] = 0
    spans = chunk_spans(audio)
    assert spans[0][0] == 0
    assert spans[-1][1] == length // 160
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert all(last - first <= 3000 for first, last in spans)
    if len(spans) > 1:
        assert all(last - first >= MIN_CHUNK_FRAMES for first, last in spans)
        assert all(last - first >= 3000 - MIN_CHUNK_FRAMES - SEARCH_FRAMES for first, last in spans[:-1])
