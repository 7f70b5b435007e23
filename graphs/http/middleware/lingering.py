"""uvicorn's HTTP protocol, extended at the end of a connection: responses reach clients that write first or have stopped writing.

A refused request's body may still be on its way. A socket that is closed with unread bytes is reset, and the reset can overtake the
response: a client that reads only after it has written sees no response. So the rest is read and thrown away, within bounds.

A client that shuts down only its writing side is answered. Until bytes are written to it, it looks like one that has left, whose
request has to be cancelled. So the first bytes of the response, which are the same for every status, are sent at once, one by one:
the system of a client that has left answers with a reset, and the next byte ends the connection.
"""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LINGER_BYTES = 64 * 1024 * 1024
"""Longest rest of a body that is thrown away; the connection is closed then."""
LINGER_S = 30.0
"""Longest time of that, in seconds, as nginx's lingering_time."""
LINGER_IDLE_S = 5.0
"""Longest time without a byte of it, as nginx's lingering_timeout."""
START = b"HTTP/1.1 "
"""First bytes of whatever uvicorn sends."""
PROBES_S = [0.01 * 3**number for number in range(len(START) - 1)]
"""Times between two of them, in seconds: the first 10 ms, all together 33 s."""


class LingeringProtocol(HttpToolsProtocol):
    _body_ended = True
    """False while a request's body is on its way."""
    _closes = False
    """True once a response has been sent after which the connection ends."""
    _lingers_until_s: float | None = None
    _left_bytes = 0
    """Bytes that may still be thrown away."""
    _probed = 0
    """Bytes of `START` that were sent before the response."""
    _timer: asyncio.TimerHandle | None = None

    def throws_away(self, size_bytes: int) -> bool:
        """Count bytes that have been received; true where nothing needs to parse them."""
        if self._lingers_until_s is None:
            return False
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            self.transport.close()
        else:
            self._wait_for_more(self._lingers_until_s)
        return self._closes or self.transport.is_closing()

    def close_lingering(self) -> None:
        """Close the connection once the client has, or at a bound: it still sends."""
        self._closes = True
        self._linger()

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self._unset_keepalive_if_required()
            self._body_ended = False
            self.cycle.transport = cast(asyncio.Transport, _ResponseTransport(self, self.cycle))

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_ended = True
        if self._lingers_until_s is not None:  # the connection stays open for the next request
            self._lingers_until_s = None
            self._unset_timer()
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._body_ended and not self.transport.is_closing():
            self._linger()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection of a request that is whole and not yet answered. True leaves the closing to this protocol."""
        cycle = self.cycle
        if cycle is None or not self._body_ended or cycle.response_started or self.pipeline or self.scheme == "https":
            return None
        cycle.keep_alive = False
        self._probe()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_timer()
        super().connection_lost(exc)

    def ends(self, cycle: RequestResponseCycle) -> bool:
        """Whether the connection lingers after this response, of those that end it."""
        self._closes = cycle is self.cycle and cycle.response_complete and not self._body_ended
        return self._closes

    def unsent(self, data: bytes) -> bytes:
        """The response's bytes without those that were sent before."""
        rest, self._probed = data[self._probed :], 0
        return rest

    def _linger(self) -> None:
        self._unset_keepalive_if_required()
        if self._closes and self.transport.can_write_eof():
            self.transport.write_eof()
        self._left_bytes = LINGER_BYTES
        self._lingers_until_s = self.loop.time() + LINGER_S
        self._wait_for_more(self._lingers_until_s)

    def _wait_for_more(self, until_s: float) -> None:
        self._unset_timer()
        wait_s = min(LINGER_IDLE_S, until_s - self.loop.time())
        self._timer = self.loop.call_later(wait_s, self.timeout_keep_alive_handler)

    def _unset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _probe(self) -> None:
        if self.cycle.response_started or self.transport.is_closing():
            return
        self.transport.write(START[self._probed : self._probed + 1])
        self._probed += 1
        if self._probed < len(START):
            self._timer = self.loop.call_later(PROBES_S[self._probed - 1], self._probe)


class _ResponseTransport:
    """The transport as one response uses it."""

    def __init__(self, protocol: LingeringProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(self._protocol.unsent(data))

    def close(self) -> None:
        if not self._protocol.ends(self._cycle):
            self._protocol.transport.close()

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()
