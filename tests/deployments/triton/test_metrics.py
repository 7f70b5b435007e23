"""Triton's own metrics become gauges with the same names, labels and values."""

import asyncio
import logging
import time
from typing import Any

import pytest

from deployments.time_left import TimeLeft
from deployments.triton.metrics import TritonMetrics
from tests.deployments.triton.test_server import parrot, say

TEXT = """\
# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="parrot",reason="BACKEND",version="1"} 3
nv_inference_request_failure{model="parrot",reason="CANCELED",version="1"} 0
# HELP nv_inference_count Number of inferences performed (does not include cached requests)
# TYPE nv_inference_count counter
nv_inference_count{model="parrot",version="1"} 7
# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution per-model.
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="parrot",version="1"} 2
# HELP nv_pinned_memory_pool_used_bytes Pinned memory pool used memory size, in bytes
# TYPE nv_pinned_memory_pool_used_bytes gauge
nv_pinned_memory_pool_used_bytes 4096
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
# HELP nv_inference_first_response_histogram_ms Duration from request to first response in milliseconds
# TYPE nv_inference_first_response_histogram_ms histogram
nv_inference_first_response_histogram_ms_count{model="parrot",version="1"} 1
nv_inference_first_response_histogram_ms_sum{model="parrot",version="1"} 20
nv_inference_first_response_histogram_ms_bucket{model="parrot",version="1",le="100"} 1
nv_inference_first_response_histogram_ms_bucket{model="parrot",version="1",le="+Inf"} 1
"""
"""What tritonserver 2.71 writes for a model; the histogram is one that has to be switched on."""


class Gauges:
    """Stands where Ray's Gauge would be: the last value under name and labels. Refuses what Ray refuses."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self.made: list[str] = []

    def __call__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        assert description
        self.made.append(name)
        return _Gauge(self, name, tag_keys)


class _Gauge:
    def __init__(self, gauges: Gauges, name: str, labels: tuple[str, ...]) -> None:
        self._gauges = gauges
        self._name = name
        self._labels = labels

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self._labels)
        self._gauges.values[(self._name, *(f"{label}={tags[label]}" for label in self._labels if tags[label]))] = value


def test_counters_and_gauges_keep_their_names_labels_and_values() -> None:
    gauges = Gauges()
    TritonMetrics(gauges).mirror(TEXT)
    assert {key: value for key, value in gauges.values.items() if "histogram" not in key[0]} == {
        ("nv_inference_request_failure", "model=parrot", "reason=BACKEND", "version=1"): 3,
        ("nv_inference_request_failure", "model=parrot", "reason=CANCELED", "version=1"): 0,
        ("nv_inference_count", "model=parrot", "version=1"): 7,
        ("nv_inference_pending_request_count", "model=parrot", "version=1"): 2,
        ("nv_pinned_memory_pool_used_bytes",): 4096,
    }


def test_a_histogram_keeps_its_parts() -> None:
    gauges = Gauges()
    TritonMetrics(gauges).mirror(TEXT)
    name = "nv_inference_first_response_histogram_ms"
    assert gauges.values[f"{name}_bucket", "le=+Inf", "model=parrot", "version=1"] == 1
    assert gauges.values[f"{name}_sum", "model=parrot", "version=1"] == 20


def test_what_has_no_value_is_not_mirrored() -> None:
    gauges = Gauges()
    TritonMetrics(gauges).mirror(TEXT)
    assert not [name for name in gauges.made if "gpu" in name]


def test_a_later_text_replaces_the_values_and_makes_no_gauge_twice() -> None:
    gauges = Gauges()
    metrics = TritonMetrics(gauges)
    metrics.mirror(TEXT)
    metrics.mirror(TEXT.replace('count{model="parrot",version="1"} 7', 'count{model="parrot",version="1"} 8'))
    assert gauges.values["nv_inference_count", "model=parrot", "version=1"] == 8
    assert len(gauges.made) == len(set(gauges.made))


def test_a_label_that_comes_later_or_goes_does_not_break_the_others() -> None:
    gauges = Gauges()
    metrics = TritonMetrics(gauges)
    metrics.mirror(TEXT)
    metrics.mirror('# TYPE nv_inference_count counter\nnv_inference_count{gpu_uuid="GPU-1",model="parrot"} 9\n')
    assert gauges.values["nv_inference_count", "model=parrot"] == 9


def test_a_text_that_cannot_be_read_is_logged_once_and_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    metrics = TritonMetrics(Gauges())
    with caplog.at_level(logging.WARNING, "ray.serve"):
        metrics.mirror("nv_inference_count{model= 7")
        metrics.mirror("nv_inference_count{model= 7")
    assert [record.getMessage() for record in caplog.records] == ["Triton's metrics cannot be mirrored"]


def test_an_empty_text_is_nothing() -> None:
    gauges = Gauges()
    TritonMetrics(gauges).mirror("")
    assert gauges.values == {}


def test_without_ray_it_goes_into_the_void(caplog: pytest.LogCaptureFixture) -> None:
    TritonMetrics().mirror(TEXT)
    assert caplog.records == []


@pytest.mark.triton
async def test_a_real_servers_inferences_are_counted() -> None:

    server = parrot()
    gauges = Gauges()
    metrics = TritonMetrics(gauges)
    count = ("nv_inference_count", "model=parrot", "version=1")
    try:
        for _ in range(5):
            await server.infer(say("echo"), TimeLeft(10))
        deadline_s = time.monotonic() + 10
        while gauges.values.get(count, 0) < 6 and time.monotonic() < deadline_s:  # Triton counts after it has answered
            metrics.mirror(server.metrics())
            await asyncio.sleep(0.05)
        assert gauges.values[count] == 5 + 1, "five, and the one that warms up"
        assert {name for name in gauges.made if not name.startswith("nv_") or "gpu" in name or "cpu" in name} == set()
    finally:
        await server.close()
