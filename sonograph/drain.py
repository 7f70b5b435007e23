"""`sonograph drain`: the wait before a pod or a server ends, and with it Serve's proxy and every connection to it."""

import contextlib
import json
import time
import urllib.request
from typing import Annotated

import typer

SETTLE_S = 5.0
"""Endpoint removal races with the pod's end: requests still arrive for this long."""


def drain(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    most_s: Annotated[float, typer.Option(min=0, help="Longest wait, in seconds.")] = 60.0,
) -> None:
    """Wait until no request is in flight here: a pod's preStop hook."""
    settle_s = min(SETTLE_S, most_s)
    time.sleep(settle_s)
    wait_until_idle(port, most_s - settle_s)


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
