"""Admission to the ingress: it bounds the requests and their bytes, so that no queue behind it grows long."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive

from deployments.errors import DeploymentError, InvalidInput, Overloaded
from graphs.core.latency import LatencyEstimator
from graphs.http.body_timeout import BodyTimeout
from graphs.http.errors import RateLimitExceeded

LONGEST_RETRY_AFTER_S = 60
"""A longer estimate is useless: by then replicas have been added, or clients have given up."""


class Reservation:
    """One request of the ingress: first an upload, and once its body is whole one of the concurrent requests."""

    def __init__(
        self, admission: "Admission", key: str | None, body_timeout: BodyTimeout, retry_after_s: Callable[[], float]
    ) -> None:
        self.key = key
        self.body_timeout = body_timeout
        self.size_bytes = 0
        self.uploading = True
        self.places = 1
        """Of the concurrent requests: one for each picture."""
        self._admission = admission
        self._retry_after_s = retry_after_s

    def resize(self, size_bytes: int) -> None:
        """Set the bytes that the request really holds. They may grow beyond the bound: the next requests are then refused."""
        self.size_bytes = size_bytes

    def receiving(self, receive: Receive) -> Receive:
        """`receive` of the request, which then also raises BodyTooSlow, and Overloaded where no more bytes may be held."""

        async def message() -> Message:
            received = await self.body_timeout.wait(receive)
            size_bytes = len(received.get("body", b""))
            self._admission.require_bytes(size_bytes, self._retry_after_s, self)
            self.size_bytes += size_bytes
            return received

        return message

    def begin(self) -> None:
        """Take a place among the concurrent requests: the body is whole. Raises Overloaded."""
        self._admission.require_places(self._retry_after_s)
        self.uploading = False

    def count(self, n: int) -> None:
        """Count the request, whose body is whole, as so many: all its pictures are drawn at once. Raises as `Admission.require_more`."""
        self._admission.require_more(n, self, self._retry_after_s)
        self.places = n


class Admission:
    """Limiter of an ingress replica. It refuses at once every request beyond its bounds.

    A body that is still on its way has one of `max_concurrent_uploads` places, and holds the bytes that have come. Where they are
    all taken, the slowest upload loses its place, if it has fallen behind. A request has one of `max_concurrent_requests` places
    only once its body is whole, and one for each of its pictures. `max_of_key` bounds both for each API key.
    """

    def __init__(
        self,
        max_concurrent_requests: int,
        max_concurrent_uploads: int,
        max_buffered_bytes: int,
        body_timeout: Callable[[], BodyTimeout],
        max_of_key: int | None = None,
    ) -> None:
        """`body_timeout` makes that of one body."""
        self._max_concurrent_requests = max_concurrent_requests
        self._max_concurrent_uploads = max_concurrent_uploads
        self._max_buffered_bytes = max_buffered_bytes
        self._max_of_key = max_of_key
        self._body_timeout = body_timeout
        self._admitted: set[Reservation] = set()

    @property
    def requests(self) -> int:
        """All that are in the ingress, uploads too, each once."""
        return len(self._admitted)

    @property
    def concurrent_requests(self) -> int:
        """Places of the requests whose body is whole."""
        return sum(reservation.places for reservation in self._admitted if not reservation.uploading)

    @property
    def bytes(self) -> int:
        return sum(reservation.size_bytes for reservation in self._admitted)

    @contextmanager
    def admit(self, key: str | None, declared_bytes: int, retry_after_s: Callable[[], float]) -> Iterator[Reservation]:
        """Reserve a place until the request ends, in whatever way. Raises Overloaded and RateLimitExceeded on entering.

        `declared_bytes` are not reserved: a request is refused if they do not fit now. A request that is alone is admitted
        whatever its size: no wait could free the bytes that it needs. `retry_after_s` is called when a request is refused; the
        client gets a whole number of seconds from 1 to 60.
        """
        self._require_share(key, retry_after_s)
        self.require_places(retry_after_s)
        self.require_bytes(declared_bytes, retry_after_s)
        self._require_upload(retry_after_s)
        reservation = Reservation(self, key, self._body_timeout(), retry_after_s)
        self._admitted.add(reservation)
        try:
            yield reservation
        finally:
            self._admitted.discard(reservation)

    def require_places(self, retry_after_s: Callable[[], float], n: int = 1, own: Reservation | None = None) -> None:
        """Raise Overloaded where `n` places are not free; `own`: the reservation that is to have them."""
        most = self._max_concurrent_requests
        taken = sum(one.places for one in self._admitted - {own} if not one.uploading)
        if taken + n > most:
            bound = f"the service has {_part(taken, most)} requests that it takes at the same time (setting http.max_concurrent_requests)"
            raise _refusal(Overloaded, bound, retry_after_s(), _fewer(n))

    def require_more(self, n: int, own: Reservation, retry_after_s: Callable[[], float]) -> None:
        """Raise Overloaded or RateLimitExceeded where a request does not fit as `n`, and InvalidInput where it never would."""
        of_key = None if own.key is None else self._max_of_key
        bounds = {"http.max_concurrent_requests": self._max_concurrent_requests, "http.key_max_concurrent_requests": of_key}
        for setting, most in bounds.items():
            if most is not None and n > most:
                refused = InvalidInput(f"n must be at most {most}: each picture counts as a request (setting {setting})")
                refused.param = "n"
                raise refused
        self._require_share(own.key, retry_after_s, n, own)
        self.require_places(retry_after_s, n, own)

    def require_bytes(self, size_bytes: int, retry_after_s: Callable[[], float], own: Reservation | None = None) -> None:
        """`own`: the reservation that is to hold them."""
        if self._admitted - {own} and self.bytes + size_bytes > self._max_buffered_bytes:
            mib = self._max_buffered_bytes / 1024 / 1024
            bound = f"holds all the recordings that fit in {mib:g} MiB (setting http.max_buffered_bytes)"
            raise _refusal(Overloaded, f"the service {bound}", retry_after_s(), ", or send a shorter or compressed recording")

    def _require_share(
        self, key: str | None, retry_after_s: Callable[[], float], n: int = 1, own: Reservation | None = None
    ) -> None:
        most = self._max_of_key
        if most is None or key is None:
            return
        taken = sum(one.places for one in self._admitted - {own} if one.key == key)
        if taken + n > most:
            bound = f"this key has {_part(taken, most)} requests that one may have at the same time (setting "
            raise _refusal(RateLimitExceeded, f"{bound}http.key_max_concurrent_requests)", retry_after_s(), _fewer(n))

    def _require_upload(self, retry_after_s: Callable[[], float]) -> None:
        uploads = [reservation for reservation in self._admitted if reservation.uploading]
        if len(uploads) < self._max_concurrent_uploads:
            return
        evictable = [reservation for reservation in uploads if reservation.body_timeout.evictable]
        if not evictable:
            bound = f"has all {self._max_concurrent_uploads} uploads that it takes at the same time (setting http.max_concurrent_uploads)"
            raise _refusal(Overloaded, f"the service {bound}", retry_after_s())
        slowest = min(evictable, key=lambda reservation: reservation.body_timeout.due_s)
        slowest.body_timeout.evict()
        self._admitted.discard(slowest)


def retry_after_s(in_flight: int, stages: Iterable[tuple[LatencyEstimator, int]]) -> float:
    """Seconds until the `in_flight` requests of the ingress are done: the slowest stage sets the rate. `stages`: with their replicas.

    A stage without a measurement counts as taking no time.
    """
    slowest_s = max(((latency.typical_s() or 0.0) / max(1, replicas) for latency, replicas in stages), default=0.0)
    return in_flight * slowest_s + 1


def _part(taken: int, most: int) -> str:
    return f"all {most}" if taken >= most else f"{taken} of the {most}"


def _fewer(n: int) -> str:
    return ", or ask for fewer pictures" if n > 1 else ""


def _refusal[Refusal: DeploymentError](error: type[Refusal], bound: str, retry_after_s: float, otherwise: str = "") -> Refusal:
    seconds = math.ceil(min(LONGEST_RETRY_AFTER_S, max(1.0, retry_after_s)))
    refusal = error(f"{bound}: try again in {seconds} s{otherwise}")
    refusal.retry_after_s = seconds
    return refusal
