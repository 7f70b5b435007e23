"""Where a long recording is cut: its pieces are all of it, none is above 30 s, and a cut is in a pause if there is one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.whisper.chunk_boundaries import LEAST, SEARCHED, spans

RATE_HZ = 16_000
FRAMES_A_SECOND = 100
Audio = NDArray[np.int16]


def noise(seconds: float, loud: int) -> Audio:
    return np.random.default_rng(0).integers(-loud, loud + 1, round(seconds * RATE_HZ)).astype(np.int16)


def seconds(found: list[tuple[int, int]]) -> list[float]:
    """Of the cuts."""
    return [end / FRAMES_A_SECOND for _, end in found[:-1]]


def with_pauses(length_s: float, *pauses: tuple[float, float], loud: int = 6000, faint: int = 0) -> Audio:
    """Loud noise with pauses of (from, to) seconds."""
    audio = noise(length_s, loud)
    for first_s, last_s in pauses:
        span = slice(round(first_s * RATE_HZ), round(last_s * RATE_HZ))
        audio[span] = noise(length_s, faint)[span]
    return audio


@pytest.mark.parametrize("length_s", [0.1, 29.9, 30.0, 30.004])
def test_what_is_not_longer_than_a_window_is_one_piece(length_s: float) -> None:
    audio = noise(length_s, 3000)
    assert spans(audio) == [(0, audio.size // 160)]


@pytest.mark.parametrize("faint", [0, 3, 300])
def test_a_cut_is_in_the_middle_of_the_pause(faint: int) -> None:
    (cut_s,) = seconds(spans(with_pauses(50, (23.0, 24.0), faint=faint)))
    assert cut_s == pytest.approx(23.5, abs=0.1)


@pytest.mark.parametrize(
    ("pauses", "middle_s"),
    [
        pytest.param([(22.0, 22.4), (24.0, 25.0), (27.0, 27.2)], 24.5, id="the longest"),
        pytest.param([(24.0, 24.5), (27.0, 27.5)], 27.25, id="of equal ones the last"),
        pytest.param([(12.0, 18.0), (26.0, 26.5)], 26.25, id="not one that is early"),
        pytest.param([(24.0, 24.06), (26.0, 26.3)], 26.15, id="not a stop within a word"),
    ],
)
def test_of_several_pauses(pauses: list[tuple[float, float]], middle_s: float) -> None:
    assert seconds(spans(with_pauses(50, *pauses))) == [pytest.approx(middle_s, abs=0.06)]


def test_a_pause_may_have_noise_that_is_not_even() -> None:
    audio = with_pauses(50, (22.0, 23.0), (26.0, 26.5), faint=100)
    audio[round(26.2 * RATE_HZ) : round(26.24 * RATE_HZ)] = 0  # a gate that closes for a moment
    assert seconds(spans(audio)) == [pytest.approx(22.5, abs=0.1)]


def test_no_more_pieces_than_it_takes_where_that_leaves_a_choice() -> None:
    assert len(spans(with_pauses(54, (20.5, 22.5), (26.0, 26.3)))) == 2
    assert len(spans(with_pauses(59.5, (22.0, 22.5), (44.0, 44.5)))) == 3, "only at 29.5 to 30 s there would be two"


def test_the_last_piece_is_no_scrap() -> None:
    for length_s in (30.01, 31, 33, 36):
        found = spans(with_pauses(length_s, (29.2, 29.9)))
        assert len(found) == 2
        assert all(last - first >= LEAST for first, last in found)


def test_where_there_is_no_pause_it_is_cut_all_the_same() -> None:
    """Also in the loudest there is, whose squares do not fit into what the samples are."""
    for audio in (noise(100, 3000), np.full(100 * RATE_HZ, -32768, np.int16), np.zeros(100 * RATE_HZ, np.int16)):
        found = spans(audio)
        assert found[0][0] == 0
        assert found[-1][1] == 10_000
        assert 4 <= len(found) <= 5


def test_music_is_cut_where_it_is_softest() -> None:
    beat = np.abs(np.sin(np.arange(80 * RATE_HZ) / RATE_HZ * np.pi / 2)) + 0.05  # soft each 2 s
    for cut_s in seconds(spans((noise(80, 6000) * beat).astype(np.int16))):
        assert cut_s % 2 == pytest.approx(0, abs=0.15) or cut_s % 2 == pytest.approx(2, abs=0.15)


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 130 * RATE_HZ),
    pauses=st.lists(st.tuples(st.floats(0, 130), st.floats(0.05, 60)), max_size=8),
    loud=st.sampled_from([0, 1, 40, 20_000]),
)
def test_the_pieces_are_all_of_it(length: int, pauses: list[tuple[float, float]], loud: int) -> None:
    audio = np.resize(noise(7, loud), length)
    for first_s, long_s in pauses:
        audio[round(first_s * RATE_HZ) : round((first_s + long_s) * RATE_HZ)] = 0
    found = spans(audio)
    assert found[0][0] == 0
    assert found[-1][1] == length // 160
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(found))
    assert all(last - first <= 3000 for first, last in found)
    if len(found) > 1:
        assert all(last - first >= LEAST for first, last in found)
        assert all(last - first >= 3000 - LEAST - SEARCHED for first, last in found[:-1])
