"""Admission: bounds on requests and bytes, which every request frees however it ends."""

import asyncio
import pickle
from contextlib import ExitStack

import pytest

from deployments.errors import Overloaded
from graphs.core.latency import LatencyEstimator
from graphs.http.admission import Admission, Reservation, declared_bytes, retry_after_s

MIB = 1024 * 1024


def fill(admission: Admission, stack: ExitStack, *sizes: int) -> list[Reservation]:
    return [stack.enter_context(admission.admit(size, lambda: 5.0)) for size in sizes]


def refuse(admission: Admission, size: int = 1, retry_after_s: float = 5.0) -> Overloaded:
    """Return the refusal of one more request."""
    with pytest.raises(Overloaded) as refused, admission.admit(size, lambda: retry_after_s):
        pytest.fail("it was admitted")
    return refused.value


def test_one_more_request_is_refused_with_the_bound_its_setting_and_the_remedy() -> None:
    admission = Admission(2, 100)
    with ExitStack() as stack:
        fill(admission, stack, 1, 1)
        refused = refuse(admission)
        assert (admission.requests, admission.bytes) == (2, 2)
    assert "all 2 requests" in str(refused)
    assert "http.max_concurrent_requests" in str(refused)
    assert "try again in 5 s" in str(refused)
    assert refused.retry_after_s == pickle.loads(pickle.dumps(refused)).retry_after_s == 5
    assert Overloaded("x").retry_after_s == 2, "the class keeps its default"


def test_one_more_byte_is_refused_with_the_bound_its_setting_and_the_remedy() -> None:
    admission = Admission(10, 3 * MIB)
    with ExitStack() as stack:
        fill(admission, stack, 2 * MIB)
        refused = refuse(admission, MIB + 1)
        fill(admission, stack, MIB)
        assert admission.bytes == 3 * MIB
    assert "3 MiB" in str(refused)
    assert "http.max_buffered_bytes" in str(refused)
    assert "shorter or compressed" in str(refused)
    assert refused.retry_after_s == 5


@pytest.mark.parametrize(
    ("estimate_s", "sent_s"),
    [(-1, 1), (0, 1), (0.2, 1), (1, 1), (1.01, 2), (59.5, 60), (60.5, 60), (1e9, 60), (float("inf"), 60), (float("nan"), 1)],
)
def test_retry_after_is_whole_seconds_rounded_up_from_1_to_60(estimate_s: float, sent_s: int) -> None:
    refused = refuse(Admission(0, 1), retry_after_s=estimate_s)
    assert type(refused.retry_after_s) is int
    assert refused.retry_after_s == sent_s


def test_an_admitted_request_needs_no_estimate() -> None:
    with Admission(1, 1).admit(1, lambda: pytest.fail("estimated")):
        pass


def test_a_lone_request_is_admitted_whatever_its_size() -> None:
    admission = Admission(10, 100)
    with ExitStack() as stack:
        fill(admission, stack, 1000)
        refuse(admission, 0)


def test_a_smaller_recording_frees_the_rest_of_its_bytes_at_once() -> None:
    admission = Admission(10, 100)
    with ExitStack() as stack:
        (reservation,) = fill(admission, stack, 100)
        refuse(admission)
        reservation.resize(40)
        fill(admission, stack, 60)
        refuse(admission)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_a_larger_recording_stays_admitted_and_the_next_requests_are_refused() -> None:
    admission = Admission(10, 100)
    with ExitStack() as stack:
        small, _ = fill(admission, stack, 10, 10)
        small.resize(200)
        refuse(admission, 0)
    assert admission.bytes == 0


def test_a_reservation_that_has_ended_holds_nothing_even_when_it_is_resized() -> None:
    admission = Admission(1, 100)
    with ExitStack() as stack:
        (reservation,) = fill(admission, stack, 10)
    reservation.resize(1000)
    stack.close()
    assert (admission.requests, admission.bytes) == (0, 0)
    with ExitStack() as stack:
        fill(admission, stack, 10)
        refuse(admission)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_an_error_frees_the_reservation_and_is_raised(error: type[BaseException]) -> None:
    admission = Admission(1, 100)
    with pytest.raises(error), admission.admit(10, lambda: 1.0):
        raise error
    assert (admission.requests, admission.bytes) == (0, 0)


async def test_a_cancelled_request_frees_its_reservation() -> None:
    admission = Admission(1, 100)

    async def request() -> None:
        with admission.admit(10, lambda: 1.0):
            await asyncio.sleep(60)

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    assert admission.requests == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (admission.requests, admission.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("content_length", "expected"),
    [
        ("0", 0),
        ("999", 999),
        ("1000", 1000),
        ("1001", 1000),
        ("9" * 18, 1000),
        ("9" * 5000, 1000),
        (None, 1000),
        ("", 1000),
        ("-1", 1000),
        ("many", 1000),
        ("²", 1000),
    ],
)
def test_the_declared_length_is_reserved_up_to_the_most_that_is_read(content_length: str | None, expected: int) -> None:
    assert declared_bytes(content_length, 1000) == expected


def measured(requests: int, fixed_s: float) -> LatencyEstimator:
    latency = LatencyEstimator()
    for _ in range(requests):
        latency.record("64x64", fixed_s, 0.0, 10)
    return latency


def test_retry_after_is_the_slowest_stages_time_for_all_requests_in_the_ingress() -> None:
    quick, slow = measured(5, 0.5), measured(5, 4.0)
    assert retry_after_s(10, [(quick, 1), (slow, 1)]) == pytest.approx(41)
    assert retry_after_s(10, [(quick, 1), (slow, 4)]) == pytest.approx(11)
    assert retry_after_s(10, [(quick, 1), (slow, 16)]) == pytest.approx(6), "with 16 replicas the other stage is the slowest"
    assert retry_after_s(0, [(quick, 1), (slow, 1)]) == 1


def test_a_stage_without_a_measurement_takes_no_time_and_one_without_a_replica_counts_as_one() -> None:
    assert retry_after_s(10, []) == 1
    assert retry_after_s(10, [(LatencyEstimator(), 1)]) == 1
    assert retry_after_s(10, [(LatencyEstimator(), 0), (measured(1, 4.0), 0)]) == pytest.approx(41)
