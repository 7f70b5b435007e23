"""Metrics by stage, with their names and labels; a recorder replaces Ray's metrics."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from ray.serve.metrics import Counter, Gauge, Histogram

from graphs.core.metrics import METRICS, Metric, Metrics

SERVE = {"deployment", "replica", "application", "route"}


class Recorder:
    """Recorder of counts and observations by name and labels, which rejects what Ray rejects."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        return _Recorded(self, name, tag_keys)

    def histogram(self, name: str, description: str, boundaries: list[float], tag_keys: tuple[str, ...]) -> Any:
        assert boundaries == sorted(boundaries)
        assert boundaries[0] > 0
        return _Recorded(self, name, tag_keys)

    def metrics(self) -> Metrics:
        return Metrics(self.counter, self.histogram, self.counter)


class _Recorded:
    def __init__(self, recorder: Recorder, name: str, labels: tuple[str, ...]) -> None:
        self._recorder = recorder
        self._name = name
        self._labels = labels

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        self.observe(value, tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.observe(value, tags)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        assert isinstance(value, int | float)
        assert set(tags) == set(self._labels)
        self._recorder.seen[(self._name, *(tags[label] for label in self._labels))].append(value)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_finished_stage_records_its_durations_and_its_batch_size(recorder: Recorder) -> None:
    metrics = recorder.metrics()
    metrics.started("diffusion")
    metrics.finished("diffusion", compute_s=1.5, queue_s=0.25, batch_size=2)
    assert recorder.seen == {
        ("sonograph_requests", "diffusion"): [1],
        ("sonograph_compute_duration_seconds", "diffusion"): [1.5],
        ("sonograph_queue_duration_seconds", "diffusion"): [0.25],
        ("sonograph_batch_size", "diffusion"): [2],
    }


def test_a_stage_without_a_queue_or_batches_has_no_metrics_of_them(recorder: Recorder) -> None:
    recorder.metrics().finished("decode", compute_s=0.02, audio_s=3.5)
    assert recorder.seen == {
        ("sonograph_compute_duration_seconds", "decode"): [0.02],
        ("sonograph_audio_seconds", "decode"): [3.5],
    }


def test_a_wait_of_zero_in_the_queue_is_recorded(recorder: Recorder) -> None:
    recorder.metrics().finished("whisper", compute_s=1, queue_s=0.0)
    assert recorder.seen["sonograph_queue_duration_seconds", "whisper"] == [0.0]


def test_a_failure_counts_under_its_stage_and_code(recorder: Recorder) -> None:
    metrics = recorder.metrics()
    metrics.failed("whisper", "no_speech")
    metrics.failed("ingress", "audio_too_large")
    assert recorder.seen == {
        ("sonograph_errors", "whisper", "no_speech"): [1],
        ("sonograph_errors", "ingress", "audio_too_large"): [1],
    }


def test_a_cancelled_stage_is_counted(recorder: Recorder) -> None:
    recorder.metrics().cancelled("diffusion")
    assert recorder.seen == {("sonograph_cancellations", "diffusion"): [1]}


def test_numpy_numbers_are_recorded(recorder: Recorder) -> None:
    recorder.metrics().finished("diffusion", compute_s=np.float32(0.5), batch_size=np.int64(2))
    assert recorder.seen == {
        ("sonograph_compute_duration_seconds", "diffusion"): [0.5],
        ("sonograph_batch_size", "diffusion"): [2],
    }


def test_a_retry_is_counted(recorder: Recorder) -> None:
    recorder.metrics().retried("whisper")
    assert recorder.seen == {("sonograph_retries", "whisper"): [1]}


def test_a_rollout_has_its_share_and_scores(recorder: Recorder) -> None:
    metrics = recorder.metrics()
    metrics.share("whisper", 20.0)
    metrics.score("whisper", "word_drift", 0.02, 0.01, 0.04)
    metrics.fell_back("whisper", "internal")
    metrics.mirrored("whisper")
    metrics.mirrored("whisper", dropped=True)
    assert recorder.seen == {
        ("sonograph_rollout_share", "whisper"): [20.0],
        ("sonograph_rollout_score", "whisper", "word_drift", "value"): [0.02],
        ("sonograph_rollout_score", "whisper", "word_drift", "low"): [0.01],
        ("sonograph_rollout_score", "whisper", "word_drift", "high"): [0.04],
        ("sonograph_rollout_fallbacks", "whisper", "internal"): [1],
        ("sonograph_rollout_mirrored", "whisper", "false"): [1],
        ("sonograph_rollout_mirrored", "whisper", "true"): [1],
    }


def test_outside_of_ray_serves_metrics_do_nothing_and_raise_nothing() -> None:
    metrics = Metrics(Counter, Histogram, Gauge)
    metrics.started("whisper")
    metrics.finished("whisper", compute_s=1, queue_s=0.1, batch_size=1, audio_s=2)
    metrics.failed("whisper", "no_speech")
    metrics.cancelled("whisper")
    metrics.retried("whisper")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_no_metric_has_a_label_that_serve_reserves(metric: Metric) -> None:
    assert "stage" in metric.labels
    assert not SERVE & set(metric.labels)


def test_a_histograms_sum_is_exact_for_whole_batches() -> None:
    """Ray computes the sum from the middles of the buckets."""
    (batches,) = (metric for metric in METRICS if metric.name == "sonograph_batch_size")
    middles = [(low + high) / 2 for low, high in zip(batches.bounds, batches.bounds[1:], strict=False)]
    assert middles == list(range(1, 17))
