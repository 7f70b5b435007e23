"""Admission to the ingress: it bounds the requests and their bytes, so that no queue behind it grows long."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deployments.errors import Overloaded
from graphs.core.latency import LatencyEstimator

LONGEST_RETRY_AFTER_S = 60
"""A longer estimate is useless: by then replicas have been added, or clients have given up."""


@dataclass(eq=False)
class Reservation:
    """One admitted request."""

    size_bytes: int

    def resize(self, size_bytes: int) -> None:
        """Set the bytes that the request really holds. They may grow beyond the bound: the next requests are then refused."""
        self.size_bytes = size_bytes


class Admission:
    """Limiter that refuses at once every request of an ingress replica beyond `max_concurrent_requests` or `max_buffered_bytes`."""

    def __init__(self, max_concurrent_requests: int, max_buffered_bytes: int) -> None:
        self._max_concurrent_requests = max_concurrent_requests
        self._max_buffered_bytes = max_buffered_bytes
        self._admitted: set[Reservation] = set()

    @property
    def requests(self) -> int:
        return len(self._admitted)

    @property
    def bytes(self) -> int:
        return sum(reservation.size_bytes for reservation in self._admitted)

    @contextmanager
    def admit(self, size_bytes: int, retry_after_s: Callable[[], float]) -> Iterator[Reservation]:
        """Reserve one place and `size_bytes` until it ends, in whatever way. Raises Overloaded on entering.

        A request that is alone is admitted whatever its size: no wait could free the bytes that it needs.
        `retry_after_s` is called when a request is refused; the client gets a whole number of seconds from 1 to 60.
        """
        if len(self._admitted) >= self._max_concurrent_requests:
            bound = f"has all {self._max_concurrent_requests} requests that it takes at once (its setting http.max_concurrent_requests)"
            raise _overloaded(bound, "", retry_after_s())
        if self._admitted and self.bytes + size_bytes > self._max_buffered_bytes:
            mib = self._max_buffered_bytes / 1024 / 1024
            bound = f"holds all the recordings that fit in {mib:g} MiB (its setting http.max_buffered_bytes)"
            raise _overloaded(bound, ", or send a shorter or compressed recording", retry_after_s())
        reservation = Reservation(size_bytes)
        self._admitted.add(reservation)
        try:
            yield reservation
        finally:
            self._admitted.discard(reservation)


def declared_bytes(content_length: str | None, max_upload_bytes: int) -> int:
    """Bytes to reserve before a body is read: its Content-Length, at most the largest upload."""
    declared = content_length or ""
    known = declared.isdecimal() and len(declared) <= 18  # int() refuses thousands of digits
    return min(int(declared), max_upload_bytes) if known else max_upload_bytes


def retry_after_s(in_flight: int, stages: Iterable[tuple[LatencyEstimator, int]]) -> float:
    """Seconds until the `in_flight` requests of the ingress are done: the slowest stage sets the rate. `stages`: with their replicas.

    A stage without a measurement counts as taking no time.
    """
    slowest_s = max(((latency.typical_s() or 0.0) / max(1, replicas) for latency, replicas in stages), default=0.0)
    return in_flight * slowest_s + 1


def _overloaded(bound: str, otherwise: str, retry_after_s: float) -> Overloaded:
    seconds = math.ceil(min(LONGEST_RETRY_AFTER_S, max(1.0, retry_after_s)))
    error = Overloaded(f"the service {bound}: try again in {seconds} s{otherwise}")
    error.retry_after_s = seconds
    return error
