"""Timeout of a body: pauses and rates that end it, and the upload that loses its place first."""

import asyncio
from typing import Any

import pytest

from graphs.http.body_timeout import BodyTimeout
from graphs.http.errors import BodyTooSlow


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def chunk(size: int) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(size), "more_body": True}

    return receive


async def never() -> Any:
    await asyncio.sleep(3600)


async def test_each_byte_gives_time_again_as_long_as_the_rate_is_kept() -> None:
    clock = Clock()
    timeout = BodyTimeout(10, 500, clock)
    assert timeout.due_s == 110
    clock.now_s += 9
    await timeout.wait(chunk(4500))
    assert timeout.due_s == 119
    clock.now_s += 9
    await timeout.wait(chunk(1))
    assert timeout.due_s == pytest.approx(100 + 4501 / 500 + 10), "a byte each 9 s is less than 500 bytes/s"
    await timeout.wait(chunk(1_000_000))
    assert timeout.due_s == 128, "bytes in advance give no right to a longer pause"


async def test_an_empty_chunk_gives_no_time() -> None:
    clock = Clock()
    timeout = BodyTimeout(10, 500, clock)
    clock.now_s += 9
    await timeout.wait(chunk(0))
    assert timeout.due_s == 110


async def test_a_body_that_pauses_too_long_is_refused_with_the_settings() -> None:
    with pytest.raises(
        BodyTooSlow, match=r"pauses of 0\.05 s \(setting http\.body_idle_timeout_s\), at 500 bytes/s .*http\.min_body_bytes_per_s"
    ):
        await BodyTimeout(0.05, 500).wait(never)


async def test_a_trickle_is_refused() -> None:
    timeout, received = BodyTimeout(0.2, 500), 0

    async def trickle() -> Any:
        nonlocal received
        await asyncio.sleep(0.02)
        received += 1
        return await chunk(1)()

    async def body() -> None:
        for _ in range(1000):
            await timeout.wait(trickle)

    with pytest.raises(BodyTooSlow):
        await body()
    assert 0 < received < 999


async def test_a_cancelled_wait_is_cancelled() -> None:
    task = asyncio.create_task(BodyTimeout(60, 500).wait(never))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_upload_can_be_evicted_once_it_has_fallen_behind() -> None:
    clock = Clock()
    timeout = BodyTimeout(10, 500, clock)
    assert not timeout.evictable, "it is not waiting"
    task = asyncio.create_task(timeout.wait(never))
    await asyncio.sleep(0)
    clock.now_s += 0.9
    assert not timeout.evictable
    clock.now_s += 0.1
    assert timeout.evictable
    timeout.evict()
    with pytest.raises(BodyTooSlow):
        await task


async def test_bytes_that_come_with_the_eviction_do_not_undo_it() -> None:
    timeout, arrived = BodyTimeout(10, 500), asyncio.Event()

    async def receive() -> Any:
        await arrived.wait()
        return await chunk(5)()

    task = asyncio.create_task(timeout.wait(receive))
    await asyncio.sleep(0)
    arrived.set()
    timeout.evict()
    with pytest.raises(BodyTooSlow):
        await task
