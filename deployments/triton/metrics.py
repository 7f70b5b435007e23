"""Publish Triton's own metrics on Ray's metrics port, since an in-process server has no port of its own. Runs in a replica.

Triton's gauges become gauges of the same name, exported as `ray_<name>`. Its counters become Prometheus counters, exported as
`ray_<name>_total`: each publication adds the difference from the last one, the first one from 0.

Ray drops a gauge some seconds after its replica has died, and exports a counter for good. The series of a dead replica therefore
stays at its last total: its rate() and increase() are 0, a sum of the totals still includes it, and each new replica adds a series,
with another label `replica`. Counters are published all the same, since rate(), increase() and dashboards expect them of a total.
The increase since the last publication, of at most one health check's period, is lost with its replica.
"""

import logging
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from ray.serve.metrics import Counter, Gauge

from deployments.zero import begin

log = logging.getLogger("ray.serve")

type _Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its labels."""


class TritonMetrics:
    """One for each replica, created inside of it: Serve sets the labels `deployment`, `replica` and `application` on creation."""

    def __init__(self, gauge: Callable[..., Any] = Gauge, counter: Callable[..., Any] = Counter) -> None:
        self._new_gauge = gauge
        self._new_counter = counter
        self._metrics: dict[str, tuple[Any, tuple[str, ...]]] = {}
        """Each with the labels that its name had first: Ray fixes them on creation."""
        self._totals: dict[_Series, float] = {}
        """Triton's totals at the last publication."""
        self._warned = False

    def publish(self, text: str) -> None:
        """Publish `text`, which Triton's `metrics()` returned. Metrics without a value (a GPU's, where they are off) are left out.

        Takes about 3 ms. Never raises: a health check calls it, and a metric that cannot be read does not make a replica unhealthy.
        """
        try:
            for family in text_string_to_metric_families(text):
                is_counter = family.type == "counter"
                labels = tuple(sorted({label for sample in family.samples for label in sample.labels}))
                for sample in family.samples:
                    # The parser appends `_total` to a counter's name, which Triton's names lack and Ray's export adds.
                    name = family.name if is_counter else sample.name
                    metric, keys = self._metric(name, family.documentation, labels, is_counter)
                    tags = {key: sample.labels.get(key, "") for key in keys}
                    if is_counter:
                        self._increase(metric, tags, (name, tuple(sorted(sample.labels.items()))), sample.value)
                    else:
                        metric.set(sample.value, tags)
        except Exception:
            if not self._warned:
                log.warning("Triton's metrics cannot be published", exc_info=True)
            self._warned = True

    def _metric(self, name: str, description: str, labels: tuple[str, ...], is_counter: bool) -> tuple[Any, tuple[str, ...]]:
        if name not in self._metrics:
            new = self._new_counter if is_counter else self._new_gauge
            self._metrics[name] = new(name, description, labels), labels
        return self._metrics[name]

    def _increase(self, counter: Any, tags: dict[str, str], series: _Series, total: float) -> None:
        """Add the difference from the last total. A total that has fallen counts from zero: Triton has restarted in this process."""
        if series not in self._totals:
            begin(counter, tags)
        last = self._totals.get(series, 0.0)
        increase = total - last if total >= last else total
        if increase > 0:  # Ray refuses 0
            counter.inc(increase, tags)
        self._totals[series] = total
