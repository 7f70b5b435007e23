"""Requests under way: as many at a time as are answered (closed loop), or when they are due whatever comes back (open loop)."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

CLIENT_S = 60.0
"""A client waits no longer."""
NO_ANSWER = 0
"""The status of a request whose client gave up, or whose connection broke."""

Send = Callable[[int], Awaitable[int]]
"""Sends the request of this number and returns its status."""
Tell = Callable[[], None]
"""Is called at the end of each request."""


@dataclass(frozen=True)
class Answer:
    """Times are in seconds from the load's start."""

    due_s: float
    """When it was to be sent: what holds the sender up counts as the service's."""
    ended_s: float
    status: int

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.due_s


def client(url: str) -> httpx.AsyncClient:
    """Each request has a connection of its own, as those of different people have."""
    return httpx.AsyncClient(base_url=url, timeout=None, limits=httpx.Limits(max_keepalive_connections=0))


def sender(client: httpx.AsyncClient, recordings: Sequence[bytes], client_s: float = CLIENT_S) -> Send:
    """`POST /graph` with the recordings in turns."""

    async def send(number: int) -> int:
        try:
            async with asyncio.timeout(client_s):
                answer = await client.post("/graph", files={"file": recordings[number % len(recordings)]})
        except (TimeoutError, httpx.TransportError):
            return NO_ANSWER
        return answer.status_code

    return send


def arrivals(per_s: float, seconds: float, seed: int) -> list[float]:
    """When the requests of a Poisson process are due, in seconds from 0 up to `seconds`."""
    lot = random.Random(seed)
    due_s: list[float] = []
    at_s = lot.expovariate(per_s)
    while at_s < seconds:
        due_s.append(at_s)
        at_s += lot.expovariate(per_s)
    return due_s


async def open_loop(send: Send, due_s: Sequence[float], tell: Tell = lambda: None) -> list[Answer]:
    """One request at each of these times; returns when the last has ended."""
    began_s = time.perf_counter()

    async def one(number: int, due_s: float) -> Answer:
        await asyncio.sleep(max(0.0, began_s + due_s - time.perf_counter()))
        status = await send(number)
        tell()
        return Answer(due_s, time.perf_counter() - began_s, status)

    return list(await asyncio.gather(*(one(number, at_s) for number, at_s in enumerate(due_s))))


async def closed_loop(send: Send, concurrency: int, seconds: float, tell: Tell = lambda: None) -> list[Answer]:
    """So many callers, each with its next request when its last has ended. Answers after `seconds` are left out."""
    began_s = time.perf_counter()
    answers: list[Answer] = []

    async def caller(number: int) -> None:
        while (due_s := time.perf_counter() - began_s) < seconds:
            status = await send(number)
            tell()
            answers.append(Answer(due_s, time.perf_counter() - began_s, status))
            number += concurrency

    await asyncio.gather(*(caller(number) for number in range(concurrency)))
    return [answer for answer in answers if answer.ended_s <= seconds]


def per_s(answers: Sequence[Answer], until_s: float | None = None) -> float:
    """Answers 200 a second, from the first of them to `until_s`: without it, to the last of them."""
    ends_s = sorted(answer.ended_s for answer in answers if answer.status == 200)
    if len(ends_s) < 2:
        return 0.0
    return (len(ends_s) - 1) / ((ends_s[-1] if until_s is None else until_s) - ends_s[0])


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank: the least value that `share` of all do not exceed. NaN of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else math.nan
