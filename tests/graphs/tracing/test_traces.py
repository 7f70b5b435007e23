"""Traces that an ingress replica keeps, and the choice of those that are sent."""

import asyncio
import contextlib
import time
from typing import Any

import pytest

from deployments.errors import Overloaded
from deployments.span import Span, TraceContext
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import Trace
from graphs.tracing.traces import Traces
from testing.fakes import Sent

SAMPLED, NOT_SAMPLED = (f"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))


def begin(traces: Traces, traceparent: str = "", id: str = "id-1") -> Trace | None:
    return traces.begin(TraceContext.parse(traceparent), id, {"http.request.method": "POST", "http.route": "/graph"})


def ended(
    traces: Traces, status: int = 200, code: str | None = None, took_ms: float = 5, traceparent: str = "", id: str = "id-1"
) -> Trace:
    trace = begin(traces, traceparent, id)
    assert trace is not None
    trace.root.started_ns -= int(took_ms * 1e6)
    trace.end(status, code)
    return trace


@pytest.mark.parametrize(
    ("ratio", "request_", "is_sent"),
    [
        (1.0, {}, True),
        (0.0, {}, False),
        (0.0, {"traceparent": SAMPLED}, True),
        (1.0, {"traceparent": NOT_SAMPLED}, False),
        (0.0, {"status": 503, "code": "model_unavailable"}, True),
        (0.0, {"status": 503, "code": "model_unavailable", "traceparent": NOT_SAMPLED}, True),
        (0.0, {"status": 422, "code": "invalid_parameter"}, False),
        (0.0, {"took_ms": 2000}, True),
        (0.0, {"took_ms": 1999}, False),
    ],
)
def test_a_trace_is_sent(ratio: float, request_: dict[str, Any], is_sent: bool) -> None:
    """By the ratio, by its client's decision, and always where it failed or was slow."""
    sent = Sent()
    traces = Traces(TracingSettings(sample_ratio=ratio, slow_s=2), sent)
    trace = ended(traces, **request_)
    assert sent == ([trace] if is_sent else [])


def test_the_time_since_which_all_are_kept_moves_with_the_first_one_that_is_dropped() -> None:
    before_ns = time.time_ns()
    traces = Traces(TracingSettings(max_traces=2))
    begun_ns = traces.since_ns
    assert before_ns <= begun_ns <= time.time_ns()
    first = ended(traces)
    with first.mirror("mirror whisper"):
        pass
    second = ended(traces)
    assert (traces.count, traces.since_ns) == (2, begun_ns)
    ended(traces)
    assert (traces.count, traces.since_ns) == (2, first.root.ended_ns)
    ended(traces)
    assert (traces.count, traces.since_ns) == (2, second.root.ended_ns)


@pytest.mark.parametrize("traceparent", [SAMPLED, NOT_SAMPLED])
def test_a_mirrored_calls_trace_is_kept_and_sent_with_its_requests(traceparent: str) -> None:
    sent = Sent()
    traces = Traces(TracingSettings(sample_ratio=0, slow_s=2), sent)
    request = ended(traces, traceparent=traceparent)
    ended(traces, id="id-2", traceparent=NOT_SAMPLED)
    with contextlib.suppress(Overloaded), request.mirror("mirror whisper") as mirror:
        mirror.root.started_ns -= int(60e9)  # neither slow nor failed ones are sent alone
        assert traces.find(mirror.id) is None  # it has not ended
        raise Overloaded("too many")
    assert sent == ([request, mirror] if traceparent == SAMPLED else [])
    assert request.mirrors == [mirror]
    assert traces.find(mirror.id) is mirror
    assert traces.find("id-1") is request
    last = traces.find("last")
    assert last is traces.find("id-2") is not mirror
    assert traces.find("slowest") in (request, last)


def test_the_ratio_is_kept() -> None:
    sent = Sent()
    traces = Traces(TracingSettings(sample_ratio=0.25), sent)
    for _ in range(4000):
        ended(traces)
    assert 850 < len(sent) < 1150


def test_only_so_many_are_kept() -> None:
    traces = Traces(TracingSettings(max_traces=3))
    made = [ended(traces, id=f"id-{number}", took_ms=100 - number) for number in range(5)]
    assert traces.find("id-1") is None
    assert traces.find("id-2") is made[2]
    assert traces.find(made[3].id) is made[3]
    assert traces.find("last") is made[4]
    assert traces.find("slowest") is made[2]


def large(traces: Traces, events: int, id: str) -> Trace:
    """Return an ended trace of three spans with so many events in sum."""
    trace = begin(traces, id=id)
    assert trace is not None
    spans = [Span("compute"), Span("window")]
    for number in range(events):
        spans[number % 2].event("denoising step", step=number)
    trace.add(spans)
    trace.end(200)
    return trace


def test_spans_and_events_of_all_that_are_kept_are_bounded_in_sum() -> None:
    traces = Traces(TracingSettings(max_traces=100, max_spans=60))
    made = [large(traces, 12, f"id-{number}") for number in range(4)]  # 15 each
    assert [traces.find(f"id-{number}") for number in range(4)] == made
    last = large(traces, 12, "id-4")
    assert (traces.count, traces.find("id-0"), traces.find("id-4")) == (4, None, last)
    assert traces.since_ns == made[0].root.ended_ns


def test_a_mirrored_calls_spans_count_with_its_requests() -> None:
    traces = Traces(TracingSettings(max_traces=100, max_spans=60))
    made = [large(traces, 12, f"id-{number}") for number in range(4)]

    def mirror(of: Trace) -> Trace:
        with of.mirror("mirror whisper") as found:
            found.add([Span("compute") for _ in range(15)])
        return found

    kept = mirror(made[3])
    assert (traces.count, traces.find(kept.id)) == (2, kept)  # of 15, and of 15 and 16
    mirror(made[0])  # whose request is not kept any more: it takes no place
    large(traces, 10, "id-4")
    assert traces.count == 3
    large(traces, 12, "id-5")
    assert [traces.find(f"id-{number}") is not None for number in range(2, 6)] == [False, True, True, True]


def test_the_newest_trace_is_kept_however_large_it_is() -> None:
    traces = Traces(TracingSettings(max_traces=100, max_spans=5))
    for number in range(3):
        assert large(traces, 50, f"id-{number}") is traces.find("last")
        assert traces.count == 1


def test_nothing_is_kept_before_the_first_request() -> None:
    traces = Traces(TracingSettings())
    assert [traces.find(id) for id in ("last", "slowest", "id-1")] == [None] * 3


def test_without_anybody_to_see_it_there_is_no_trace() -> None:
    assert begin(Traces(TracingSettings(max_traces=0)), SAMPLED) is None


async def test_a_trace_is_found_whose_request_ends_right_after_its_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(TracingSettings())
    trace = begin(traces)
    assert trace is not None
    search = asyncio.create_task(traces.find_soon(trace.id))
    await asyncio.sleep(0)
    trace.end(200)
    assert await search is trace
    monkeypatch.setattr("graphs.tracing.traces.ENDS_S", 0.01)
    other = begin(traces, id="id-2")
    assert other is not None
    assert await traces.find_soon(other.id) is None  # it runs on
