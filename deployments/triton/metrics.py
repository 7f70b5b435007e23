"""Triton's own `nv_*` metrics on Ray's metrics port: an in-process server has no port of its own. Runs in a room's replica.

Each becomes a gauge of Triton's name (Ray puts `ray_` before it), and so do its counters: a gauge takes the total that Triton states,
and it ends some seconds after its replica, where Ray exports a dead replica's counter for good. PromQL's rate() and increase() take
it as it is: it falls only when a replica is replaced, and then the label `replica` is another.
"""

import logging
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from ray.serve.metrics import Gauge

log = logging.getLogger("ray.serve")


class TritonMetrics:
    """One for each replica, made inside of it: Serve's labels `deployment`, `replica` and `application` are taken when it is made."""

    def __init__(self, gauge: Callable[..., Any] = Gauge) -> None:
        self._new = gauge
        self._gauges: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._warned = False

    def publish(self, text: str) -> None:
        """`text`: what Triton's `metrics()` returns. What it has no value for (a GPU's figures where they are off) is left out.

        Takes about 3 ms. Never raises: a health check calls it, and figures are not health.
        """
        try:
            for family in text_string_to_metric_families(text):
                labels = tuple(sorted({label for sample in family.samples for label in sample.labels}))
                for sample in family.samples:
                    # The parser puts `_total` after a counter's name, which Triton's have not.
                    name = family.name if family.type == "counter" else sample.name
                    gauge, keys = self._gauge(name, family.documentation, labels)
                    gauge.set(sample.value, {key: sample.labels.get(key, "") for key in keys})
        except Exception:
            if not self._warned:
                log.warning("Triton's metrics cannot be mirrored", exc_info=True)
            self._warned = True

    def _gauge(self, name: str, meaning: str, labels: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
        """The gauge, and its labels: those that its name came with first."""
        if name not in self._gauges:
            self._gauges[name] = self._new(name, meaning, labels), labels
        return self._gauges[name]
