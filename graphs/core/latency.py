"""Estimates of how long a stage takes, without the time in queues: from them a deadline that cannot be met is known."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from statistics import median, quantiles

KEYS = 32
SAMPLES = 100
LEAST_SAMPLES = 20
FRESH_S = 300.0
"""Older samples do not count. Otherwise a slow period could refuse every request, and no request would ever show its end."""


@dataclass(frozen=True)
class _Sample:
    at_s: float
    fixed_s: float
    unit_s: float


class LatencyEstimator:
    """Times of one stage. `key` and units are a Workload's: requests of one key take a fixed time and one for each unit.

    Keeps the last 100 requests of each of at most 32 keys; the least recently used key is dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: OrderedDict[Hashable, deque[_Sample]] = OrderedDict()
        self._whole_s: deque[float] = deque(maxlen=SAMPLES)

    def record(self, key: Hashable, fixed_s: float, unit_s: float, units: int) -> None:
        """Add one request that finished: `fixed_s` whatever its units are, and `unit_s` for each of them."""
        samples = self._samples.setdefault(key, deque(maxlen=SAMPLES))
        samples.append(_Sample(self._clock(), fixed_s, unit_s))
        self._samples.move_to_end(key)
        if len(self._samples) > KEYS:
            self._samples.popitem(last=False)
        self._whole_s.append(fixed_s + units * unit_s)

    def at_least_s(self, key: Hashable, units: int) -> float | None:
        """The 10th percentile of the fixed part, and of a unit `units` times. None with fewer than 20 samples of 5 minutes."""
        if key not in self._samples:
            return None
        self._samples.move_to_end(key)
        oldest_s = self._clock() - FRESH_S
        fresh = [sample for sample in self._samples[key] if sample.at_s >= oldest_s]
        if len(fresh) < LEAST_SAMPLES:
            return None
        return _percentile_10([sample.fixed_s for sample in fresh]) + units * _percentile_10([sample.unit_s for sample in fresh])

    def typical_s(self) -> float | None:
        """The median of the last 100 whole requests, whatever their keys; None before the first."""
        return median(self._whole_s) if self._whole_s else None


def _percentile_10(values: list[float]) -> float:
    return quantiles(values, n=10, method="inclusive")[0]
