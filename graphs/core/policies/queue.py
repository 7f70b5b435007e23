"""A stage's FIFO queue in the ingress, where requests are counted and clients learn their position."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from graphs.core.policies.policy import Call, Proceed
from graphs.core.progress import Queued
from graphs.tracing.trace import span


@dataclass(eq=False)
class _Waiter:
    on_position: Callable[[int], None]
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    position: int = 0


class FifoLimiter:
    """FIFO queue with a changing concurrency limit, before one stage.

    `limit` returns how many requests may run now; at least 1 is taken, and it must not raise. It is called whenever a request comes
    or leaves, so the limit follows the replicas; requests that run already keep running when it shrinks.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._running = 0
        self._queue: list[_Waiter] = []

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return sum(not waiter.granted.done() for waiter in self._queue)

    @asynccontextmanager
    async def slot(self, on_position: Callable[[int], None] = lambda position: None) -> AsyncIterator[None]:
        """Wait for a slot and hold it.

        `on_position` receives the position in the queue, 1 for the next, when the wait begins and whenever it changes; a request
        that runs at once gets none. It is called while other requests come and leave, so it must neither raise nor take long.
        """
        waiter = _Waiter(on_position)
        self._queue.append(waiter)
        try:
            self.recheck()
            await waiter.granted
        except BaseException:
            # The slot may have been granted between the cancellation and this line: then it is passed on.
            if waiter in self._queue:
                self._queue.remove(waiter)
            else:
                self._running -= 1
            self.recheck()
            raise
        try:
            yield
        finally:
            self._running -= 1
            self.recheck()

    def recheck(self) -> None:
        """Grant the free slots. To be called when `limit` may have grown while no request came or left."""
        waiting = [waiter for waiter in self._queue if not waiter.granted.done()]  # a waiter that is done was cancelled
        free = max(0, max(1, self._limit()) - self._running)
        for waiter in waiting[:free]:
            self._queue.remove(waiter)
            self._running += 1
            waiter.granted.set_result(None)
        for position, waiter in enumerate(waiting[free:], start=1):
            if waiter.position != position:
                waiter.position = position
                waiter.on_position(position)


class Queue:
    """Policy that holds a slot of the stage's limiter during the call, and reports the position while it waits."""

    def __init__(self, limiter: FifoLimiter) -> None:
        self._limiter = limiter

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        async with AsyncExitStack() as stack:
            with span(call.context.trace, "queue"):
                await stack.enter_async_context(
                    self._limiter.slot(lambda position: call.context.report(Queued(call.stage, position)))
                )
            return await proceed(call)
