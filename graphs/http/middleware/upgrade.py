"""uvicorn's HTTP protocol, extended to read the body of a request with an Upgrade header: every JDK's default client sends `h2c`.

A server may ignore an Upgrade (RFC 9110, section 7.8), as uvicorn intends to. But httptools treats the bytes after the headers as the
other protocol: the application gets no body, and uvicorn parses the body as the next request.
"""

import httptools
from uvicorn import config

from graphs.http.middleware.lingering import LingeringProtocol

MAX_UNFINISHED_BYTES = 64 * 1024
"""Bytes of a request's line and headers that have not ended; finished headers have a bound of their own (`proxy.MAX_HEADER_BYTES`)."""
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class IgnoringUpgrades(LingeringProtocol):
    """Protocol that continues with a new parser after an Upgrade to anything but a WebSocket. The new one gets only the body's framing."""

    _in_headers = False
    _header_bytes = 0
    """Bytes received of headers that have not ended."""
    _repeating_headers = False
    """True while the new parser parses headers that the first one has already parsed."""

    def data_received(self, data: bytes) -> None:
        if self.throws_away(len(data)):
            return
        while data:
            try:
                self._unset_keepalive_if_required()
                self.parser.feed_data(data)
                self._bound_headers(len(data))
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]
                self._restart_parser()
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def _bound_headers(self, received: int) -> None:
        """End the connection where headers go on and on: they are kept until they end, before anything of the service sees them."""
        self._header_bytes = self._header_bytes + received if self._in_headers else 0
        if self._header_bytes > MAX_UNFINISHED_BYTES and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.close_lingering()

    def _restart_parser(self) -> None:
        framing = [pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._repeating_headers = True
        lines = [b"POST / HTTP/1.1", *(name + b": " + value for name, value in framing), b"\r\n"]
        self.parser.feed_data(b"\r\n".join(lines))

    def on_message_begin(self) -> None:
        if not self._repeating_headers:
            self._in_headers = True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._repeating_headers:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._repeating_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if not self._repeating_headers:
            super().on_headers_complete()
        self._repeating_headers = False

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_message_complete()


def install() -> None:
    """Make this protocol uvicorn's default in this process: Serve's proxy uses the default and has no option for another."""
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{IgnoringUpgrades.__name__}"
