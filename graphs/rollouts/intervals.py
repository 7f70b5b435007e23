"""Confidence intervals of a rollout's measures. `tail` is the chance that a bound misses, for each of the two bounds."""

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 5000
SEED = 20_260_101
"""Seed of the bootstrap: the same observations always have the same interval."""


class Interval(NamedTuple):
    estimate: float
    low: float
    high: float


@lru_cache(maxsize=1024)
def share(count: int, total: int, tail: float) -> Interval:
    """A share of independent requests: the exact binomial interval (Clopper & Pearson 1934).

    The lower bound is above a share p exactly if `count` or more of `total` have a chance of less than `tail` under p.
    """
    return Interval(count / total, _least_share(count, total, tail), 1 - _least_share(total - count, total, tail))


def _least_share(count: int, total: int, tail: float) -> float:
    """The share under which `count` or more of `total` have the chance `tail`, by bisection to 1e-9."""
    if count == 0:
        return 0.0
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, total + 1)))))
    counts = np.arange(count, total + 1)
    log_choices = log_factorials[total] - log_factorials[counts] - log_factorials[total - counts]
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        chance = np.exp(log_choices + counts * np.log(middle) + (total - counts) * np.log1p(-middle)).sum()
        low, high = (middle, high) if chance < tail else (low, middle)
    return low


def ratio(parts: Sequence[int], wholes: Sequence[int], tail: float) -> Interval:
    """Ratio of sums over clusters, such as wrong words of transcripts (Cochran 1977, Sampling Techniques, 6.4).

    The standard error is not below that of independent words by Agresti & Coull (1998): no error in few words is no proof of none.
    """
    numerators, denominators = np.asarray(parts, float), np.asarray(wholes, float)
    count, whole = len(numerators), max(1.0, float(denominators.sum()))
    estimate = float(numerators.sum()) / whole
    between = np.square(numerators - estimate * denominators).sum() * count / (count - 1)
    adjusted = min(1.0, (float(numerators.sum()) + 1) / (whole + 2))
    error = max(float(np.sqrt(between)) / whole, (adjusted * (1 - adjusted) / whole) ** 0.5)
    return _around(estimate, error, count, tail, least=0.0)


def mean(values: Sequence[float], tail: float) -> Interval:
    """Mean of numbers that are not negative, by Student's t."""
    found = np.asarray(values)
    return _around(float(found.mean()), float(found.std(ddof=1)) / len(found) ** 0.5, len(found), tail, least=0.0)


def difference(values: Sequence[float], others: Sequence[float], tail: float) -> Interval:
    """Mean of the values less that of the others (Welch 1947), with the smaller sample's degrees of freedom."""
    one, other = np.asarray(values), np.asarray(others)
    error = (one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)) ** 0.5
    return _around(float(one.mean() - other.mean()), float(error), min(len(one), len(other)), tail)


def mean_ratio(values: Sequence[float], others: Sequence[float], tail: float) -> Interval | None:
    """Ratio of two means, by the delta method on its logarithm. None where a mean is 0."""
    one, other = np.asarray(values), np.asarray(others)
    if not one.mean() > 0 < other.mean():
        return None
    error = sum(float(part.var(ddof=1) / len(part) / part.mean() ** 2) for part in (one, other)) ** 0.5
    logarithm = _around(float(np.log(one.mean() / other.mean())), error, min(len(one), len(other)), tail)
    return Interval(*(float(bound) for bound in np.exp(logarithm)))


def quantile_ratio(values: Sequence[float], others: Sequence[float], quantile: float, tail: float) -> Interval | None:
    """Ratio of two quantiles, by the percentile bootstrap (Efron 1979). None where a quantile is 0."""
    random = np.random.default_rng(SEED)
    one, other = np.sort(values), np.sort(others)
    rank, other_rank = _rank(quantile, len(one)), _rank(quantile, len(other))
    ratios = _resampled(one, rank, random) / np.maximum(_resampled(other, other_rank, random), np.finfo(float).tiny)
    low, high = np.quantile(ratios, (tail, 1 - tail))
    if other[other_rank - 1] <= 0:
        return None
    return Interval(float(one[rank - 1] / other[other_rank - 1]), float(low), float(high))


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """The smallest value that at least this part of the values does not exceed."""
    return float(np.sort(values)[_rank(quantile, len(values)) - 1])


def _rank(quantile: float, count: int) -> int:
    return max(1, int(np.ceil(quantile * count)))


def _resampled(ordered: NDArray[np.float64], rank: int, random: np.random.Generator) -> NDArray[np.float64]:
    """The value of one rank in each of RESAMPLES resamples, without drawing them.

    A resample's indices are uniform numbers, times the count, rounded down; the number of a rank among them is distributed by Beta.
    """
    count = len(ordered)
    drawn = random.beta(rank, count - rank + 1, RESAMPLES)
    found: NDArray[np.float64] = ordered[np.minimum((drawn * count).astype(int), count - 1)]
    return found


def _around(estimate: float, error: float, count: int, tail: float, least: float = -np.inf) -> Interval:
    width = student(tail, count - 1) * error
    return Interval(estimate, max(least, estimate - width), estimate + width)


def student(tail: float, freedom: int) -> float:
    """Quantile of Student's t (Abramowitz & Stegun 1964, 26.7.5): from 9 degrees of freedom within 0.1% for tails down to 0.001."""
    x = NormalDist().inv_cdf(1 - tail)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom**power) for power, term in enumerate(terms, 1))
