"""What is let into the ingress: it bounds the requests and their bytes, so that no queue behind it grows long."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deployments.errors import Overloaded

LONGEST_RETRY_AFTER_S = 60
"""An estimate beyond it is not worth the name; by then replicas have been added, or callers have left."""


@dataclass(eq=False)
class Ticket:
    """One admitted request."""

    size_bytes: int

    def resize(self, size_bytes: int) -> None:
        """To what is really held, once that is known. It can grow, beyond the bound too: the next ones are then refused."""
        self.size_bytes = size_bytes


class Admission:
    """Refuses at once what would be more than `max_requests`, waiting ones too, or hold more than `max_bytes`, in one ingress."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._tickets: set[Ticket] = set()

    @property
    def requests(self) -> int:
        return len(self._tickets)

    @property
    def bytes(self) -> int:
        return sum(ticket.size_bytes for ticket in self._tickets)

    @contextmanager
    def admit(self, size_bytes: int, retry_after_s: Callable[[], float]) -> Iterator[Ticket]:
        """Holds one place and `size_bytes` until it is left, in whatever way. Raises Overloaded on entering.

        A request that is alone is let in whatever its size: waiting could not make room for it.
        `retry_after_s` is asked when a request is refused; what is sent is a whole number of seconds from 1 to 60.
        """
        if len(self._tickets) >= self._max_requests:
            bound = f"has all {self._max_requests} requests that it takes at once (its setting http.max_requests)"
            raise _overloaded(bound, "", retry_after_s())
        if self._tickets and self.bytes + size_bytes > self._max_bytes:
            bound = f"holds all the recordings that fit in {self._max_bytes / 1024 / 1024:g} MiB (its setting http.max_bytes)"
            raise _overloaded(bound, ", or send a shorter or compressed recording", retry_after_s())
        ticket = Ticket(size_bytes)
        self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            self._tickets.discard(ticket)


def declared_bytes(content_length: str | None, max_upload_bytes: int) -> int:
    """What to reserve before a body is read: as much as its Content-Length says, never more than is read of any."""
    declared = content_length or ""
    known = declared.isdecimal() and len(declared) <= 18  # int() refuses thousands of digits
    return min(int(declared), max_upload_bytes) if known else max_upload_bytes


def _overloaded(bound: str, otherwise: str, retry_after_s: float) -> Overloaded:
    seconds = math.ceil(min(LONGEST_RETRY_AFTER_S, max(1.0, retry_after_s)))
    error = Overloaded(f"the service {bound}: try again in {seconds} s{otherwise}")
    error.retry_after_s = seconds
    return error
