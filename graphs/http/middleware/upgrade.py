"""uvicorn's HTTP protocol, with the body of a request that offers to upgrade: the default client of every JDK sends `Upgrade: h2c`.

A server may ignore an Upgrade (RFC 9110, section 7.8), as uvicorn intends to. But httptools takes the bytes after the headers for the
other protocol: uvicorn's application gets no body, and the body is parsed as the next request.
"""

import httptools
from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class IgnoringUpgrades(HttpToolsProtocol):
    """Continues with a new parser after an Upgrade to anything but a WebSocket; the new one knows only the framing of the body."""

    _again = False
    """Whether the parser repeats headers that were parsed before."""

    def data_received(self, data: bytes) -> None:
        while data:
            try:
                self._unset_keepalive_if_required()
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]
                self._read_on()
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def _read_on(self) -> None:
        framing = [pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._again = True
        lines = [b"POST / HTTP/1.1", *(name + b": " + value for name, value in framing), b"\r\n"]
        self.parser.feed_data(b"\r\n".join(lines))

    def on_message_begin(self) -> None:
        if not self._again:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._again:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._again:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._again:
            super().on_headers_complete()
        self._again = False

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_message_complete()


def install() -> None:
    """Makes this protocol uvicorn's default in this process: Serve's proxy uses the default, and has no option for another."""
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{IgnoringUpgrades.__name__}"
