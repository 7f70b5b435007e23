"""Metrics by stage, with their names and labels; a recorder replaces Ray's metrics."""

import numpy as np
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.errors import DeploymentError
from graphs.core.metrics import DECLARED, METRICS, SERVER_ERRORS, Metric, Metrics
from testing.metrics import Recorder

SERVE = {"deployment", "replica", "application", "route"}


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
        ("sonograph_compute_seconds", "diffusion"): [1.5],
        ("sonograph_compute_observations", "diffusion"): [1],
        ("sonograph_queue_duration_seconds", "diffusion"): [0.25],
        ("sonograph_queue_seconds", "diffusion"): [0.25],
        ("sonograph_queue_observations", "diffusion"): [1],
        ("sonograph_batch_size", "diffusion"): [2],
        ("sonograph_batch_sizes", "diffusion"): [2],
        ("sonograph_batch_observations", "diffusion"): [1],
    }


def test_a_stage_without_a_queue_or_batches_has_no_metrics_of_them(recorder: Recorder) -> None:
    recorder.metrics().finished("decode", compute_s=0.02, audio_s=3.5)
    assert recorder.seen == {
        ("sonograph_compute_duration_seconds", "decode"): [0.02],
        ("sonograph_compute_seconds", "decode"): [0.02],
        ("sonograph_compute_observations", "decode"): [1],
        ("sonograph_audio_seconds", "decode"): [3.5],
    }


def test_a_wait_of_zero_in_the_queue_is_recorded(recorder: Recorder) -> None:
    recorder.metrics().finished("whisper", compute_s=1, queue_s=0.0)
    assert recorder.seen["sonograph_queue_duration_seconds", "whisper"] == [0.0]
    assert recorder.seen["sonograph_queue_observations", "whisper"] == [1]


def test_the_time_of_a_whole_request_is_the_ingresss(recorder: Recorder) -> None:
    recorder.metrics().answered(2.5)
    assert recorder.seen == {
        ("sonograph_request_duration_seconds", "ingress"): [2.5],
        ("sonograph_request_seconds", "ingress"): [2.5],
        ("sonograph_request_observations", "ingress"): [1],
    }


def test_a_failure_counts_under_its_stage_and_code(recorder: Recorder) -> None:
    metrics = recorder.metrics()
    metrics.failed("whisper", "no_speech")
    metrics.failed("ingress", "audio_too_large")
    assert recorder.seen == {
        ("sonograph_errors", "whisper", "no_speech"): [1],
        ("sonograph_errors", "ingress", "audio_too_large"): [1],
    }


def test_a_stage_begins_with_its_counters_at_zero(recorder: Recorder) -> None:
    metrics = recorder.metrics()
    metrics.begin("ingress", "rate_limit_exceeded")
    assert set(map(tuple, recorder.seen.values())) == {(0,)}
    assert recorder.seen.keys() == {
        *((f"sonograph_{name}", "ingress") for name in ("requests", "cancellations", "retries")),
        *(
            ("sonograph_errors", "ingress", code)
            for code in (
                "internal",
                "overloaded",
                "model_unavailable",
                "deadline_exceeded",
                "deadline_unreachable",
                "rate_limit_exceeded",
            )
        ),
    }


def test_every_error_of_the_service_begins_at_zero() -> None:
    def classes(error: type[DeploymentError]) -> set[type[DeploymentError]]:
        return {error}.union(*map(classes, error.__subclasses__()))

    of_service = {error for error in classes(DeploymentError) if error.status >= 500 and error.__module__ == "deployments.errors"}
    assert {error.code for error in of_service} == set(SERVER_ERRORS)


def test_a_cancelled_stage_is_counted(recorder: Recorder) -> None:
    recorder.metrics().cancelled("diffusion")
    assert recorder.seen == {("sonograph_cancellations", "diffusion"): [1]}


def test_numpy_numbers_are_recorded(recorder: Recorder) -> None:
    recorder.metrics().finished("diffusion", compute_s=np.float32(0.5), batch_size=np.int64(2))
    assert recorder.seen["sonograph_compute_duration_seconds", "diffusion"] == [0.5]
    assert recorder.seen["sonograph_batch_sizes", "diffusion"] == [2]


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
        ("sonograph_rollout_mirrors", "whisper", "false"): [1],
        ("sonograph_rollout_mirrors", "whisper", "true"): [1],
    }


def test_outside_of_ray_serves_metrics_do_nothing_and_raise_nothing() -> None:
    metrics = Metrics(Counter, Histogram, Gauge)
    metrics.begin("whisper")
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


@pytest.mark.parametrize("metric", [metric for metric in DECLARED if metric.bounds], ids=lambda metric: metric.name)
def test_a_histogram_has_exact_counters_whose_names_ray_does_not_use(metric: Metric) -> None:
    total, observations = metric.counters
    assert total in METRICS
    assert observations in METRICS
    assert total.labels == observations.labels == metric.labels
    unit = metric.name.rpartition("_")[2]
    assert total.name.endswith((unit, f"{unit}s")), "the unit stands at the end of a name, before _total"
    # Prometheus' text formats let no family's name be that of another one's series.
    assert not {total.exported, observations.exported} & set(metric.series)
    assert not any(counter.name.startswith(f"{metric.name}_") for counter in metric.counters)


def test_no_two_metrics_have_a_series_in_common() -> None:
    """Families of Prometheus' text formats own their name with each of the suffixes, whatever their own type is."""
    suffixes = ("", "_total", "_created", "_bucket", "_sum", "_count", "_info")
    owned = [f"ray_{metric.name}{suffix}" for metric in METRICS for suffix in suffixes]
    assert len(set(owned)) == len(owned)
    assert len({name for metric in METRICS for name in metric.series}) == sum(len(metric.series) for metric in METRICS)


def test_the_exporter_that_ray_uses_exports_each_under_its_own_names() -> None:
    reader = PrometheusMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    for metric in METRICS:
        labels = dict.fromkeys(metric.labels, "x")
        name = f"ray_{metric.name}"
        if metric.bounds:
            bounds = [float(bound) for bound in metric.bounds]
            meter.create_histogram(name, unit="1", explicit_bucket_boundaries_advisory=bounds).record(0.3, labels)
        elif metric.is_gauge:
            meter.create_gauge(name, unit="1").set(1, labels)
        else:
            meter.create_counter(name, unit="1").add(2, labels)
    try:
        text = generate_latest().decode()
    finally:
        provider.shutdown()
    names = [sample.name for family in text_string_to_metric_families(text) for sample in family.samples]
    ours = [name for name in names if name.startswith("ray_sonograph_")]
    assert set(ours) == {name for metric in METRICS for name in metric.series}
    assert all(ours.count(name) == 1 for name in ours if not name.endswith("_bucket"))
