"""Addresses of this machine."""

import contextlib
import ipaddress

LOCAL, PORT = "127.0.0.1", 8000
"""Serve's address without `http_options`."""
URL = f"http://{LOCAL}:{PORT}"


def is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
