"""The line before a stage, in the ingress's event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Waiter:
    moved: Callable[[int], None]
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    place: int = 0


class Gate:
    """First come, first served. `slots` says how many may be inside now, at least 1 whatever it says; it must not raise.

    It is asked whenever someone comes or leaves, so it can follow the replicas; nobody inside is sent away when it shrinks.
    """

    def __init__(self, slots: Callable[[], int]) -> None:
        self._slots = slots
        self._running = 0
        self._queue: list[_Waiter] = []

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return sum(not waiter.granted.done() for waiter in self._queue)

    @asynccontextmanager
    async def slot(self, moved: Callable[[int], None] = lambda place: None) -> AsyncIterator[None]:
        """Waits for a slot and holds it.

        `moved` is told the place in the queue, 1 for the next, when it begins to wait and whenever that changes; nothing if it
        gets in at once. It is called while others come and leave, so it must neither raise nor take long.
        """
        waiter = _Waiter(moved)
        self._queue.append(waiter)
        try:
            self.recheck()
            await waiter.granted
        except BaseException:
            # Granted all the same, where the cancellation came after the grant and before this ran: then the slot goes on.
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
        """Lets in whom there is a slot for. To be called when `slots` may have grown while nobody came or left."""
        waiting = [waiter for waiter in self._queue if not waiter.granted.done()]  # one that is done was cancelled, and leaves
        free = max(0, max(1, self._slots()) - self._running)
        for waiter in waiting[:free]:
            self._queue.remove(waiter)
            self._running += 1
            waiter.granted.set_result(None)
        for place, waiter in enumerate(waiting[free:], start=1):
            if waiter.place != place:
                waiter.place = place
                waiter.moved(place)
