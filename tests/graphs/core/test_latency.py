"""Estimates of a stage's latency: by key, from recent requests, and from a minimum number of them."""

import random

import numpy as np
import pytest

from graphs.core.latency import LatencyEstimator


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def measured(count: int, fixed_s: float = 0.5, unit_s: float = 0.1, units: int = 10, key: object = "64x64") -> LatencyEstimator:
    latency = LatencyEstimator()
    for _ in range(count):
        latency.record(key, fixed_s, unit_s, units)
    return latency


def test_there_is_no_estimate_from_fewer_than_twenty_requests() -> None:
    assert LatencyEstimator().at_least_s("64x64", 1) is None
    assert measured(19).at_least_s("64x64", 10) is None
    assert measured(20).at_least_s("64x64", 10) == pytest.approx(1.5)


def test_the_estimate_scales_with_the_units_and_the_fixed_part_does_not() -> None:
    latency = measured(20)
    assert latency.at_least_s("64x64", 0) == pytest.approx(0.5)
    assert latency.at_least_s("64x64", 100) == pytest.approx(10.5)


def test_the_estimate_is_the_tenth_percentile_of_each_part() -> None:
    shuffled = random.Random(4)
    fixed_s, unit_s = shuffled.sample(range(1000), 50), shuffled.sample(range(1000), 50)
    latency = LatencyEstimator()
    for fixed, unit in zip(fixed_s, unit_s, strict=True):
        latency.record("64x64", fixed, unit, 1)
    assert latency.at_least_s("64x64", 7) == pytest.approx(np.percentile(fixed_s, 10) + 7 * np.percentile(unit_s, 10))


def test_the_measurements_of_one_key_do_not_affect_another() -> None:
    latency = measured(20, key=(64, 64, True))
    for _ in range(20):
        latency.record((512, 512, True), 5.0, 1.0, 10)
    assert latency.at_least_s((64, 64, False), 10) is None
    assert latency.at_least_s((64, 64, True), 10) == pytest.approx(1.5)
    assert latency.at_least_s((512, 512, True), 10) == pytest.approx(15)


def test_only_the_last_hundred_requests_count() -> None:
    latency = measured(11, fixed_s=0.5, unit_s=0)
    for _ in range(89):
        latency.record("64x64", 60, 0, 0)
    assert latency.at_least_s("64x64", 10) == pytest.approx(0.5)
    latency.record("64x64", 60, 0, 0)
    assert latency.at_least_s("64x64", 10) == pytest.approx(0.1 * 0.5 + 0.9 * 60), "the first of the fast requests is forgotten"
    for _ in range(100):
        latency.record("64x64", 0.25, 0, 0)
    assert latency.typical_s() == 0.25, "all earlier requests are forgotten"


def test_the_least_recently_used_of_many_keys_is_dropped() -> None:
    latency = measured(20, key=0)
    for key in range(1, 32):
        for _ in range(20):
            latency.record(key, 0.5, 0.1, 10)
    assert latency.at_least_s(0, 10) is not None, (
        "32 keys are kept, and this estimate makes the oldest key the most recently used"
    )
    latency.record("another", 0.5, 0.1, 10)
    assert latency.at_least_s(1, 10) is None
    assert latency.at_least_s(0, 10) is not None
    latency.record(2, 0.5, 0.1, 10)
    latency.record("yet another", 0.5, 0.1, 10)
    assert latency.at_least_s(3, 10) is None
    assert latency.at_least_s(2, 10) is not None


def test_an_estimate_for_an_unmeasured_key_drops_no_other() -> None:
    latency = measured(20)
    for key in range(1000):
        assert latency.at_least_s(key, 10) is None
    assert latency.at_least_s("64x64", 10) is not None


def test_slow_measurements_after_which_all_requests_were_refused_expire_after_five_minutes() -> None:
    clock = Clock()
    latency = LatencyEstimator(clock)
    for _ in range(20):
        latency.record("64x64", 60, 60, 10)
    clock.now_s += 300
    assert latency.at_least_s("64x64", 10) == pytest.approx(660)
    clock.now_s += 0.1
    assert latency.at_least_s("64x64", 10) is None
    for _ in range(20):
        latency.record("64x64", 0.5, 0.1, 10)
    assert latency.at_least_s("64x64", 10) == pytest.approx(1.5)


def test_the_typical_latency_is_the_median_of_whole_requests_of_all_keys() -> None:
    latency = LatencyEstimator()
    assert latency.typical_s() is None
    latency.record("64x64", 1, 1, 1)
    assert latency.typical_s() == 2
    latency.record("512x512", 10, 2, 5)
    latency.record("64x64", 0, 1, 3)
    assert latency.typical_s() == 3
