"""`sonograph drain`: what waits before a pod or a server goes, and with it Serve's proxy there and every connection to it."""

import contextlib
import json
import time
import urllib.request
from typing import Annotated

import typer

SETTLE_S = 5.0
"""Kubernetes takes a pod that is to go from a Service's endpoints beside its end, not before it: requests still come so long."""


def drain(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    most_s: Annotated[float, typer.Option(min=0, help="Longest wait, in seconds.")] = 60.0,
) -> None:
    """Wait until no request is in flight here: what a pod does before it goes (its preStop hook)."""
    settle_s = min(SETTLE_S, most_s)
    time.sleep(settle_s)
    wait_until_idle(port, most_s - settle_s)


def wait_until_idle(port: int, most_s: float, host: str = "127.0.0.1") -> None:
    """Returns when the ingress says that no request is in it, when nothing is there to say so, or after `most_s` seconds."""
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
