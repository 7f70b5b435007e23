"""Triton's gauges become gauges and its totals counters, with the same names and labels."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.errors import DeploymentError
from deployments.time_left import TimeLeft
from deployments.triton.metrics import TritonMetrics
from kuberay.manifest import foreign_metrics
from tests.deployments.triton.test_server import command, start_parrot

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
# HELP sonograph_denoising_steps Denoising steps that ran
# TYPE sonograph_denoising_steps counter
sonograph_denoising_steps 24
"""
"""The output of tritonserver 2.71 for a model; the histogram is one that has to be switched on."""
COUNT = ("nv_inference_count", "model=parrot", "version=1")
ENDED = ("nv_inference_request_success", "model=parrot", "version=1")


@dataclass
class Recorder:
    """Recorder of gauges and counters in place of Ray's, by name and labels. It refuses the same as Ray's."""

    gauges: dict[tuple[str, ...], float] = field(default_factory=dict)
    counters: dict[tuple[str, ...], float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def metrics(self) -> TritonMetrics:
        return TritonMetrics(self.gauge, self.counter)

    def gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        assert description
        self.names.append(name)
        return RecordedGauge(name, tag_keys, self.gauges)

    def counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        assert description
        self.names.append(name)
        return RecordedCounter(name, tag_keys, self.counters)


@dataclass
class Recorded:
    name: str
    tag_keys: tuple[str, ...]
    values: dict[tuple[str, ...], float]

    def key(self, tags: dict[str, str]) -> tuple[str, ...]:
        assert set(tags) == set(self.tag_keys)
        return (self.name, *(f"{label}={tags[label]}" for label in self.tag_keys if tags[label]))


class RecordedGauge(Recorded):
    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[self.key(tags)] = value


class RecordedCounter(Recorded):
    def inc(self, value: float, tags: dict[str, str]) -> None:
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record(value, tags)

    def _record(self, value: float, tags: dict[str, str]) -> None:
        self.values[self.key(tags)] = self.values.get(self.key(tags), 0) + value


def count(total: float) -> str:
    return TEXT.replace(
        'nv_inference_count{model="parrot",version="1"} 7', f'nv_inference_count{{model="parrot",version="1"}} {total}'
    )


def test_counters_and_gauges_keep_their_names_labels_and_values() -> None:
    recorder = Recorder()
    recorder.metrics().publish(TEXT)
    assert recorder.counters == {
        ("nv_inference_request_failure", "model=parrot", "reason=BACKEND", "version=1"): 3,
        ("nv_inference_request_failure", "model=parrot", "reason=CANCELED", "version=1"): 0,
        COUNT: 7,
        ("sonograph_denoising_steps",): 24,
    }
    assert {key: value for key, value in recorder.gauges.items() if "histogram" not in key[0]} == {
        ("nv_inference_pending_request_count", "model=parrot", "version=1"): 2,
        ("nv_pinned_memory_pool_used_bytes",): 4096,
    }


def test_a_counter_increases_by_the_difference_since_the_last_publication() -> None:
    recorder = Recorder()
    metrics = recorder.metrics()
    for total in (7, 7, 8, 20):
        metrics.publish(count(total))
        assert recorder.counters[COUNT] == total
    assert recorder.counters[("sonograph_denoising_steps",)] == 24
    assert len(recorder.names) == len(set(recorder.names)), "no metric is created twice"


def test_a_total_that_falls_counts_from_zero() -> None:
    recorder = Recorder()
    metrics = recorder.metrics()
    for total, expected in ((7, 7), (2, 9), (2, 9), (3, 10), (0, 10), (1, 11)):
        metrics.publish(count(total))
        assert recorder.counters[COUNT] == expected


def test_a_gauge_follows_its_value_down() -> None:
    recorder = Recorder()
    metrics = recorder.metrics()
    metrics.publish(TEXT)
    metrics.publish(TEXT.replace("nv_pinned_memory_pool_used_bytes 4096", "nv_pinned_memory_pool_used_bytes 0"))
    assert recorder.gauges[("nv_pinned_memory_pool_used_bytes",)] == 0


def test_a_histogram_keeps_its_parts() -> None:
    recorder = Recorder()
    recorder.metrics().publish(TEXT)
    name = "nv_inference_first_response_histogram_ms"
    assert recorder.gauges[f"{name}_bucket", "le=+Inf", "model=parrot", "version=1"] == 1
    assert recorder.gauges[f"{name}_sum", "model=parrot", "version=1"] == 20


def test_a_metric_without_a_value_is_not_published() -> None:
    recorder = Recorder()
    recorder.metrics().publish(TEXT)
    assert not [name for name in recorder.names if "gpu" in name]


def test_a_label_that_comes_later_or_goes_does_not_break_the_others() -> None:
    recorder = Recorder()
    metrics = recorder.metrics()
    metrics.publish(TEXT)
    metrics.publish('# TYPE nv_inference_count counter\nnv_inference_count{gpu_uuid="GPU-1",model="parrot"} 9\n')
    assert recorder.counters["nv_inference_count", "model=parrot"] == 9
    assert recorder.counters[COUNT] == 7


def test_a_text_that_cannot_be_read_is_logged_once_and_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Recorder().metrics()
    with caplog.at_level(logging.WARNING, "ray.serve"):
        metrics.publish("nv_inference_count{model= 7")
        metrics.publish("nv_inference_count{model= 7")
    assert [record.getMessage() for record in caplog.records] == ["Triton's metrics cannot be published"]


def test_an_empty_text_publishes_nothing() -> None:
    recorder = Recorder()
    recorder.metrics().publish("")
    assert recorder.names == []


def test_outside_of_ray_publishing_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    TritonMetrics().publish(TEXT)
    assert caplog.records == []


@pytest.mark.triton
async def test_a_real_servers_inferences_are_counted_and_a_failed_one_as_a_success() -> None:
    server = start_parrot()
    recorder = Recorder()
    metrics = recorder.metrics()
    try:
        for _ in range(5):
            await server.infer(command("echo"), TimeLeft(10))
        with pytest.raises(DeploymentError):
            await server.infer(command("fail"), TimeLeft(10))
        deadline_s = time.monotonic() + 10
        # Triton counts after its response.
        while min(recorder.counters.get(one, 0) for one in (COUNT, ENDED)) < 7 and time.monotonic() < deadline_s:
            metrics.publish(server.metrics())
            await asyncio.sleep(0.05)
        for one in (COUNT, ENDED):
            assert recorder.counters[one] == 5 + 1 + 1, "five, the failed one, and the warm-up"
        of_dashboards = {name.removeprefix("ray_").removesuffix("_total") for name in foreign_metrics.SOURCES["Triton"]}
        assert of_dashboards <= set(recorder.names)
        own = {
            name for name in recorder.names if name.startswith("nv_")
        }  # this process may have run a model with metrics of its own
        assert {name for name in own if "gpu" in name or "cpu" in name} == set()
    finally:
        await server.close()
