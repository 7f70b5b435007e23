"""What the ingress takes at once: bounded in requests and bytes, and leaving in any way gives both back."""

import asyncio
import pickle
from contextlib import ExitStack

import pytest

from deployments.errors import Overloaded
from graphs.http.admission import Admission, Ticket, declared_bytes

MIB = 1024 * 1024


def fill(admission: Admission, leave: ExitStack, *sizes: int) -> list[Ticket]:
    return [leave.enter_context(admission.admit(size, lambda: 5.0)) for size in sizes]


def refuse(admission: Admission, size: int = 1, retry_after_s: float = 5.0) -> Overloaded:
    """What it says to one more request."""
    with pytest.raises(Overloaded) as refused, admission.admit(size, lambda: retry_after_s):
        pytest.fail("it was let in")
    return refused.value


def test_one_request_more_is_refused_with_the_bound_its_setting_and_what_to_do() -> None:
    admission = Admission(2, 100)
    with ExitStack() as leave:
        fill(admission, leave, 1, 1)
        refused = refuse(admission)
        assert (admission.requests, admission.bytes) == (2, 2)
    assert "all 2 requests" in str(refused)
    assert "http.max_requests" in str(refused)
    assert "try again in 5 s" in str(refused)
    assert refused.retry_after_s == pickle.loads(pickle.dumps(refused)).retry_after_s == 5
    assert Overloaded("x").retry_after_s == 2, "the class keeps its own"


def test_one_byte_more_is_refused_with_the_bound_its_setting_and_what_to_do() -> None:
    admission = Admission(10, 3 * MIB)
    with ExitStack() as leave:
        fill(admission, leave, 2 * MIB)
        refused = refuse(admission, MIB + 1)
        fill(admission, leave, MIB)
        assert admission.bytes == 3 * MIB
    assert "3 MiB" in str(refused)
    assert "http.max_bytes" in str(refused)
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


def test_who_is_let_in_is_not_asked_how_long_it_takes() -> None:
    with Admission(1, 1).admit(1, lambda: pytest.fail("asked")):
        pass


def test_a_request_that_is_alone_is_let_in_whatever_its_size() -> None:
    admission = Admission(10, 100)
    with ExitStack() as leave:
        fill(admission, leave, 1000)
        refuse(admission, 0)


def test_what_turns_out_smaller_gives_the_rest_back_at_once() -> None:
    admission = Admission(10, 100)
    with ExitStack() as leave:
        (ticket,) = fill(admission, leave, 100)
        refuse(admission)
        ticket.resize(40)
        fill(admission, leave, 60)
        refuse(admission)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_what_turns_out_larger_stays_and_the_next_are_refused() -> None:
    admission = Admission(10, 100)
    with ExitStack() as leave:
        small, _ = fill(admission, leave, 10, 10)
        small.resize(200)
        refuse(admission, 0)
    assert admission.bytes == 0


def test_a_ticket_that_has_left_holds_nothing_whatever_becomes_of_it() -> None:
    admission = Admission(1, 100)
    with ExitStack() as leave:
        (ticket,) = fill(admission, leave, 10)
    ticket.resize(1000)
    leave.close()
    assert (admission.requests, admission.bytes) == (0, 0)
    with ExitStack() as leave:
        fill(admission, leave, 10)
        refuse(admission)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_an_error_inside_leaves_too_and_goes_on(error: type[BaseException]) -> None:
    admission = Admission(1, 100)
    with pytest.raises(error), admission.admit(10, lambda: 1.0):
        raise error
    assert (admission.requests, admission.bytes) == (0, 0)


async def test_a_cancelled_request_leaves_too() -> None:
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
def test_what_is_reserved_is_what_the_client_declares_and_no_more_than_is_read(content_length: str | None, expected: int) -> None:
    assert declared_bytes(content_length, 1000) == expected
