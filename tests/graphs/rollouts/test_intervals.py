"""Intervals: against published values, by their coverage, and the bootstrap against resamples that are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.rollouts import intervals
from graphs.rollouts.intervals import Interval, difference, mean, mean_ratio, quantile_of, quantile_ratio, ratio, share, student


@pytest.mark.parametrize(
    ("tail", "freedom", "value"),
    [(0.025, 9, 2.262), (0.005, 9, 3.250), (0.001, 9, 4.297), (0.001, 30, 3.385), (0.001, 100, 3.174), (0.025, 1000, 1.962)],
)
def test_students_t_is_that_of_the_tables(tail: float, freedom: int, value: float) -> None:
    assert student(tail, freedom) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)],
)
def test_the_interval_of_a_share_is_clopper_and_pearsons(count: int, total: int, low: float, high: float) -> None:
    assert share(count, total, 0.025) == pytest.approx((count / total, low, high), abs=1e-4)


@given(st.integers(1, 600).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_a_share_lies_in_its_interval_and_its_complement_in_the_mirrored_one(counts: tuple[int, int]) -> None:
    count, total = counts
    found, rest = share(count, total, 0.001), share(total - count, total, 0.001)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert (rest.low, rest.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-8)


def test_a_ratio_counts_clusters_not_words() -> None:
    """All errors in five transcripts of a hundred say less about the next one than the same number spread over all."""
    spread, burst = ratio([1, 0] * 50, [10] * 100, 0.001), ratio([10] * 5 + [0] * 95, [10] * 100, 0.001)
    assert spread.estimate == burst.estimate == pytest.approx(0.05)
    assert spread.low > burst.low == 0.0
    assert spread.high < burst.high


def test_a_ratio_without_an_error_is_no_proof_of_none() -> None:
    estimate, low, high = ratio([0] * 10, [10] * 10, 0.001)
    assert (estimate, low) == (0.0, 0.0)
    assert 0.01 < high < 0.1


def test_words_where_the_stable_model_heard_none_count_as_errors() -> None:
    assert ratio([2] * 40, [0] * 40, 0.001).low > 1


def test_means_and_differences() -> None:
    values = list(np.random.default_rng(1).normal(5, 1, 400))
    assert mean(values, 0.025) == pytest.approx((np.mean(values), 4.9, 5.1), abs=0.1)
    found = difference(values, [value - 1 for value in values], 0.025)
    assert found == pytest.approx((1.0, 1 - 0.139 * np.std(values), 1 + 0.139 * np.std(values)), abs=0.002)
    assert mean([1e-9, 0.5, 1e-9], 0.001).low == 0.0


def test_the_ratio_of_means_covers_the_true_one() -> None:
    random = np.random.default_rng(2)
    found = [mean_ratio(1.5 * random.lognormal(0, 0.5, 40), random.lognormal(0, 0.5, 60), 0.05) for _ in range(400)]
    assert 0.85 < np.mean([low <= 1.5 <= high for _, low, high in found]) < 0.95
    assert mean_ratio([0.0] * 10, [1.0] * 10, 0.05) is None


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_the_ratio_of_quantiles_covers_the_true_one(quantile: float) -> None:
    random = np.random.default_rng(3)
    found = [quantile_ratio(1.5 * random.lognormal(0, 0.2, 60), random.lognormal(0, 0.2, 80), quantile, 0.05) for _ in range(300)]
    assert 0.85 < np.mean([low <= 1.5 <= high for _, low, high in found]) <= 0.97


@pytest.mark.parametrize(("quantile", "count"), [(0.5, 10), (0.95, 20), (0.95, 137)])
def test_the_bootstrap_of_a_quantile_is_that_of_drawn_resamples(
    quantile: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(4)
    values = random.lognormal(0, 0.3, count)
    rank = int(np.ceil(quantile * count))
    drawn = np.sort(values[random.integers(0, count, (40_000, count))], axis=1)[:, rank - 1]
    monkeypatch.setattr(intervals, "RESAMPLES", 40_000)
    found = quantile_ratio(values, [1.0] * 30, quantile, 0.05)
    assert found == pytest.approx((np.sort(values)[rank - 1], *np.quantile(drawn, (0.05, 0.95))), rel=0.02)


def test_the_same_times_always_have_the_same_interval() -> None:
    values = list(np.random.default_rng(5).lognormal(0, 0.3, 50))
    assert quantile_ratio(values, values[::-1], 0.5, 0.005) == quantile_ratio(values[::-1], values, 0.5, 0.005)


def test_a_quantile_of_zero_has_no_ratio() -> None:
    assert quantile_ratio([1.0] * 20, [0.0] * 20, 0.5, 0.005) is None
    assert quantile_ratio([0.0] * 20, [1.0] * 20, 0.5, 0.005) == Interval(0.0, 0.0, 0.0)


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile_of([3.0, 1.0, 2.0], part) for part in (0.0, 0.5, 0.95)] == [1.0, 2.0, 3.0]
