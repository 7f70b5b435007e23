"""The wait before a server ends, and with it Serve's proxy and every connection to it."""

import contextlib
import json
import time
import urllib.request


def wait_until_idle(port: int, most_s: float, host: str = "127.0.0.1") -> None:
    """Return when the ingress reports no request in flight, when no ingress answers, or after `most_s` seconds."""
    deadline_s = time.monotonic() + most_s
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        while time.monotonic() < deadline_s:
            with (
                contextlib.suppress(TimeoutError),  # busy
                urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5) as answer,
            ):
                if json.load(answer)["requests"] == 0:
                    return
            time.sleep(0.2)
