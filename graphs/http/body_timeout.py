"""The timeout of a body: a limit between its bytes, and a least rate after a grace time. A slower one is ended."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from starlette.types import Message, Receive

from graphs.http.errors import BodyTooSlow

EVICTABLE = 0.1
"""Share of the idle timeout that an upload may fall behind before it loses its place to another one: 1 s of 10 s."""


class BodyTimeout:
    """The timeout of one body. Until `due_s` more of it has to come.

    That is `idle_timeout_s` after the last byte, or, where it is sooner, the time that the bytes so far take at `min_bytes_per_s`,
    after `idle_timeout_s` of grace.
    """

    def __init__(self, idle_timeout_s: float, min_bytes_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        self._clock = clock
        self._started_s = self._last_s = clock()
        self._bytes = 0
        self._timer: asyncio.Timeout | None = None
        """Of the message that is being waited for."""
        self._evicted = False

    @property
    def due_s(self) -> float:
        return min(self._last_s, self._started_s + self._bytes / self._min_bytes_per_s) + self._idle_timeout_s

    @property
    def evictable(self) -> bool:
        return self._timer is not None and self.due_s - self._clock() <= self._idle_timeout_s * (1 - EVICTABLE)

    def evict(self) -> None:
        """End the upload, which is `evictable`, as if its time had passed."""
        assert self._timer is not None
        self._evicted = True
        with contextlib.suppress(RuntimeError):  # it has just expired by itself
            self._timer.reschedule(0)

    async def wait(self, receive: Receive) -> Message:
        """The body's next message. Raises BodyTooSlow."""
        try:
            async with asyncio.timeout(self.due_s - self._clock()) as self._timer:
                message = await receive()
            if self._evicted:  # while the message was on its way here
                raise TimeoutError
        except TimeoutError:
            raise BodyTooSlow(
                f"the body came too slowly: send it without pauses of {self._idle_timeout_s:g} s (setting http.body_idle_timeout_s), at "
                f"{self._min_bytes_per_s:g} bytes/s at least (setting http.min_body_bytes_per_s), and without shorter pauses while the "
                "service has many uploads"
            ) from None
        finally:
            self._timer = None
        size = len(message.get("body", b""))
        if size:
            self._last_s = self._clock()
            self._bytes += size
        return message
