"""Load generators: a closed loop with a fixed number of callers, and an open loop that sends on schedule whatever the answers."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx  # on a bare machine with a GPU it is missing

CLIENT_S = 60.0
"""The time after which a client gives up."""
NO_ANSWER = 0
"""The status recorded for a request whose client gave up, or whose connection broke."""

Send = Callable[[int], Awaitable[int]]
"""Function that sends the request of this number and returns its status."""
OnAnswer = Callable[[], None]
"""Called at the end of each request."""


@dataclass(frozen=True)
class Answer:
    """Outcome of one request; times are in seconds from the load's start."""

    due_s: float
    """When it was to be sent. A delay of the sender counts as the service's (no coordinated omission)."""
    ended_s: float
    status: int

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.due_s


def client(url: str) -> "httpx.AsyncClient":
    """Return a client that opens a connection for each request, as separate users do."""
    import httpx

    # Certificates, which plain HTTP does not need, take httpx 28 ms to load.
    return httpx.AsyncClient(base_url=url, timeout=None, limits=httpx.Limits(max_keepalive_connections=0), verify=False)


def sender(client: "httpx.AsyncClient", recordings: Sequence[bytes], client_s: float = CLIENT_S) -> Send:
    """Return a function that sends the recordings in turns to `POST /graph`."""

    import httpx

    async def send(number: int) -> int:
        try:
            async with asyncio.timeout(client_s):
                answer = await client.post("/graph", files={"file": recordings[number % len(recordings)]})
        except (TimeoutError, httpx.TransportError):
            return NO_ANSWER
        return answer.status_code

    return send


def arrivals(per_s: float, seconds: float, seed: int) -> list[float]:
    """Return the times of a Poisson process, in seconds from 0 up to `seconds`."""
    rng = random.Random(seed)
    due_s: list[float] = []
    at_s = rng.expovariate(per_s)
    while at_s < seconds:
        due_s.append(at_s)
        at_s += rng.expovariate(per_s)
    return due_s


async def open_loop(send: Send, due_s: Sequence[float], on_answer: OnAnswer = lambda: None) -> list[Answer]:
    """Send one request at each of these times; return when the last has ended."""
    began_s = time.perf_counter()

    async def one(number: int, due_s: float) -> Answer:
        await asyncio.sleep(max(0.0, began_s + due_s - time.perf_counter()))
        status = await send(number)
        on_answer()
        return Answer(due_s, time.perf_counter() - began_s, status)

    return list(await asyncio.gather(*(one(number, at_s) for number, at_s in enumerate(due_s))))


async def closed_loop(send: Send, concurrency: int, seconds: float, on_answer: OnAnswer = lambda: None) -> list[Answer]:
    """Run `concurrency` callers, each of which sends its next request when its last has ended; omit answers after `seconds`."""
    began_s = time.perf_counter()
    answers: list[Answer] = []

    async def caller(number: int) -> None:
        while (due_s := time.perf_counter() - began_s) < seconds:
            status = await send(number)
            on_answer()
            answers.append(Answer(due_s, time.perf_counter() - began_s, status))
            number += concurrency

    await asyncio.gather(*(caller(number) for number in range(concurrency)))
    return [answer for answer in answers if answer.ended_s <= seconds]


def per_s(answers: Sequence[Answer], until_s: float | None = None) -> float:
    """Return the rate of answers 200 from the first of them to `until_s`, or to the last of them without it."""
    ends_s = sorted(answer.ended_s for answer in answers if answer.status == 200)
    if len(ends_s) < 2:
        return 0.0
    return (len(ends_s) - 1) / ((ends_s[-1] if until_s is None else until_s) - ends_s[0])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least value that `share` of all do not exceed (nearest rank); NaN of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else math.nan
