"""Admission: bounds on requests and bytes, which every request frees however it ends."""

import asyncio
import pickle
from contextlib import ExitStack
from typing import Any

import pytest

from deployments.errors import DeploymentError, InvalidInput, Overloaded
from graphs.core.latency import LatencyEstimator
from graphs.http.admission import Admission, Reservation, retry_after_s
from graphs.http.body_timeout import BodyTimeout
from graphs.http.errors import BodyTooSlow, RateLimitExceeded
from graphs.http.middleware.body import declared_bytes

MIB = 1024 * 1024


async def never() -> Any:
    await asyncio.sleep(3600)


def admission_of(
    requests: int, max_bytes: int, uploads: int = 100, of_key: int | None = None, idle_timeout_s: float = 10
) -> Admission:
    return Admission(requests, uploads, max_bytes, lambda: BodyTimeout(idle_timeout_s, 500), of_key)


def fill(admission: Admission, stack: ExitStack, *sizes: int, key: str | None = None) -> list[Reservation]:
    """Admit requests whose bodies are whole."""
    admitted = []
    for size in sizes:
        admitted.append(stack.enter_context(admission.admit(key, size, lambda: 5.0)))
        admitted[-1].begin()
        admitted[-1].resize(size)
    return admitted


def refuse(admission: Admission, size: int = 1, retry_after_s: float = 5.0, key: str | None = None) -> DeploymentError:
    """Return the refusal of one more request."""
    with pytest.raises((Overloaded, RateLimitExceeded)) as refused, admission.admit(key, size, lambda: retry_after_s):
        pytest.fail("it was admitted")
    return refused.value


async def receive(reservation: Reservation, size: int) -> None:
    """Let bytes of the body come."""

    async def message() -> Any:
        return {"type": "http.request", "body": bytes(size), "more_body": True}

    await reservation.receiving(message)()


def test_one_more_request_is_refused_with_the_bound_its_setting_and_the_remedy() -> None:
    admission = admission_of(2, 100)
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
    admission = admission_of(10, 3 * MIB)
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
    refused = refuse(admission_of(0, 1), retry_after_s=estimate_s)
    assert type(refused.retry_after_s) is int
    assert refused.retry_after_s == sent_s


def test_an_admitted_request_needs_no_estimate() -> None:
    with admission_of(1, 1).admit(None, 1, lambda: pytest.fail("estimated")):
        pass


def test_a_lone_request_is_admitted_whatever_its_size() -> None:
    admission = admission_of(10, 100)
    with ExitStack() as stack:
        fill(admission, stack, 1000)
        refuse(admission, 0)


def test_a_smaller_recording_frees_the_rest_of_its_bytes_at_once() -> None:
    admission = admission_of(10, 100)
    with ExitStack() as stack:
        (reservation,) = fill(admission, stack, 100)
        refuse(admission)
        reservation.resize(40)
        fill(admission, stack, 60)
        refuse(admission)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_a_larger_recording_stays_admitted_and_the_next_requests_are_refused() -> None:
    admission = admission_of(10, 100)
    with ExitStack() as stack:
        small, _ = fill(admission, stack, 10, 10)
        small.resize(200)
        refuse(admission, 0)
    assert admission.bytes == 0


def test_a_reservation_that_has_ended_holds_nothing_even_when_it_is_resized() -> None:
    admission = admission_of(1, 100)
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
    admission = admission_of(1, 100)
    with pytest.raises(error), admission.admit(None, 10, lambda: 1.0):
        raise error
    assert (admission.requests, admission.bytes) == (0, 0)


async def test_a_cancelled_request_frees_its_reservation() -> None:
    admission = admission_of(1, 100)

    async def request() -> None:
        with admission.admit(None, 10, lambda: 1.0):
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
        (None, 0),
        ("", 0),
        ("999", 999),
        ("1000", 1000),
        ("1001", 1000),
        ("9" * 18, 1000),
        ("9" * 5000, 1000),
        ("-1", 0),
        ("many", 0),
        ("²", 0),
    ],
)
def test_the_declared_length_counts_up_to_the_most_that_is_read(content_length: str | None, expected: int) -> None:
    assert declared_bytes(content_length, 1000) == expected


async def test_a_body_holds_the_bytes_that_have_come_and_not_what_it_announces() -> None:
    admission = admission_of(10, 100)
    with admission.admit(None, 90, lambda: 1.0) as first, admission.admit(None, 90, lambda: 1.0) as second:
        assert admission.bytes == 0
        await receive(first, 60)
        await receive(second, 40)
        assert admission.bytes == 100
        with pytest.raises(Overloaded, match=r"http\.max_buffered_bytes.*try again in 1 s, or send a shorter"):
            await receive(second, 1)
        assert admission.bytes == 100
        assert "http.max_buffered_bytes" in str(refuse(admission, 1))
    with admission.admit(None, 1000, lambda: 1.0) as alone:
        await receive(alone, 1000)
        assert admission.bytes == 1000


async def test_a_request_has_a_place_only_once_its_body_is_whole() -> None:
    admission = admission_of(1, 100)
    with ExitStack() as stack:
        uploads = [stack.enter_context(admission.admit(None, 1, lambda: 5.0)) for _ in range(50)]
        assert (admission.requests, admission.concurrent_requests) == (50, 0)
        uploads[0].begin()
        assert (admission.requests, admission.concurrent_requests) == (50, 1)
        with pytest.raises(Overloaded, match=r"all 1 requests .*http\.max_concurrent_requests"):
            uploads[1].begin()
        refuse(admission)


async def test_one_more_upload_is_refused_where_the_others_keep_their_pace() -> None:
    admission = admission_of(1, 100, uploads=2)
    with ExitStack() as stack:
        waiting = [stack.enter_context(admission.admit(None, 1, lambda: 5.0)) for _ in range(2)]
        tasks = [asyncio.create_task(one.receiving(never)()) for one in waiting]
        await asyncio.sleep(0)
        refused = refuse(admission)
        assert "all 2 uploads" in str(refused)
        assert "http.max_concurrent_uploads" in str(refused)
        assert refused.retry_after_s == 5
        for task in tasks:
            task.cancel()


async def test_one_more_upload_takes_the_place_of_the_slowest() -> None:
    admission = admission_of(1, 10_000, uploads=3, idle_timeout_s=2)
    with ExitStack() as stack:
        slow, silent, fast = (stack.enter_context(admission.admit(None, 1, lambda: 5.0)) for _ in range(3))
        await receive(slow, 5)
        await receive(fast, 5000)
        await asyncio.sleep(0.25)  # more than a tenth of the idle timeout
        await receive(fast, 1)
        tasks = [asyncio.create_task(one.receiving(never)()) for one in (slow, silent, fast)]
        await asyncio.sleep(0)
        for _ in (slow, silent):
            stack.enter_context(admission.admit(None, 1, lambda: 5.0))
            assert admission.requests == 3
        refuse(admission)
        for task in tasks[:2]:
            with pytest.raises(BodyTooSlow):
                await task
        assert not tasks[2].done()
        tasks[2].cancel()


def test_a_key_has_its_share_and_the_others_theirs() -> None:
    admission = admission_of(10, 100, of_key=2)
    with ExitStack() as stack:
        stack.enter_context(admission.admit("alice", 1, lambda: 5.0))
        fill(admission, stack, 1, key="alice")
        refused = refuse(admission, key="alice")
        assert (refused.status, refused.code, refused.retry_after_s) == (429, "rate_limit_exceeded", 5)
        assert "all 2 requests" in str(refused)
        assert "http.key_max_concurrent_requests" in str(refused)
        fill(admission, stack, 1, 1, key="bob")
    fill(admission, ExitStack(), 1, key="alice")


def test_each_picture_has_a_place_and_all_or_none_are_taken() -> None:
    admission = admission_of(8, 100)
    with ExitStack() as stack:
        first, second = fill(admission, stack, 1, 1)
        first.count(4)
        assert (admission.requests, admission.concurrent_requests) == (2, 5)
        with pytest.raises(Overloaded, match=r"4 of the 8 requests .*: try again in 5 s, or ask for fewer pictures$") as refused:
            second.count(5)
        assert refused.value.retry_after_s == 5
        assert admission.concurrent_requests == 5
        second.count(4)
        assert "all 8 requests" in str(refuse(admission))
    assert admission.concurrent_requests == 0


def test_pictures_that_would_never_fit_are_refused_with_the_bound_and_its_setting() -> None:
    admission = admission_of(8, 100, of_key=2)
    with ExitStack() as stack:
        (nobodys,) = fill(admission, stack, 1)
        with pytest.raises(InvalidInput, match=r"^n must be at most 8: .*http\.max_concurrent_requests\)$") as refused:
            nobodys.count(9)
        assert refused.value.param == "n"
        nobodys.count(3)
        (alices,) = fill(admission, stack, 1, key="alice")
        with pytest.raises(InvalidInput, match=r"^n must be at most 2: .*http\.key_max_concurrent_requests\)$"):
            alices.count(3)
        (other,) = fill(admission, stack, 1, key="alice")
        with pytest.raises(RateLimitExceeded, match=r"1 of the 2 requests .*, or ask for fewer pictures$"):
            alices.count(2)
        assert other.places == alices.places == 1


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
