"""HTTP whose answers are bounded in time and size: what a service, Ray or Prometheus sends is not trusted to end."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from sonograph.errors import Failed

MOST_BYTES = 64 * 2**20
MOST_S = 60.0
"""Longest time of one answer, from its first byte to its last."""
SILENCE_S = 20.0
"""Longest wait for the next byte, or for a connection."""


class Bounded(httpx.BaseTransport):
    """A transport that raises Failed for an answer that is too large or takes too long. No proxy of the environment's is used."""

    def __init__(
        self,
        inner: httpx.BaseTransport | None = None,
        most_bytes: int = MOST_BYTES,
        most_s: float = MOST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner or httpx.HTTPTransport()
        self._most_bytes, self._most_s, self._clock = most_bytes, most_s, clock

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), SILENCE_S)
        response = self._inner.handle_request(request)
        stream = _Stream(response.stream, str(request.url), self)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream, extensions=response.extensions)

    def chunks(self, stream: Any, url: str) -> Iterator[bytes]:
        size, end_s = 0, self._clock() + self._most_s
        for chunk in stream:
            size += len(chunk)
            if size > self._most_bytes:
                raise Failed(f"{url} sends more than {self._most_bytes // 2**20} MiB: is it the right address?")
            if self._clock() > end_s:
                raise Failed(f"{url} has not ended its answer within {self._most_s:g} s: is it the right address?")
            yield chunk

    def close(self) -> None:
        self._inner.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, inner: Any, url: str, bounds: Bounded) -> None:
        self._inner, self._url, self._bounds = inner, url, bounds

    def __iter__(self) -> Iterator[bytes]:
        yield from self._bounds.chunks(self._inner, self._url)

    def close(self) -> None:
        self._inner.close()
