"""`sonograph drain`, the preStop hook of a worker pod, and the wait before a server ends, with it Serve's proxy and its connections."""

import contextlib
import json
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

TRIES = 3
"""Failed connections in a row after which the head counts as gone. One that restarts is away for longer; see `drain`."""
PAUSE_S = 2.0
CONNECT_S = 5.0


def drain(
    head: Annotated[str, typer.Argument(help="Address of Ray's control store, HOST:PORT: KubeRay's $RAY_ADDRESS.")],
    settle_s: Annotated[float, typer.Option(min=0, help="Wait for the pod's removal from the Service, in seconds.")] = 5.0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Serve's port in this pod.")] = 8000,
    most_s: Annotated[float, typer.Option(min=0, help="Longest wait for requests once the head is gone, in seconds.")] = 150.0,
    parent: Annotated[int, typer.Option(min=1, help="Process of `ray start --block`.")] = 1,
) -> None:
    """Wait before a pod is told to end, and end its raylet if there is no head left.

    Ray drains a node on SIGTERM, which follows this hook, with the help of the head. Without one (the whole cluster has been
    deleted) it would wait for the whole limit of the drain, and the pod would hold its GPU meanwhile. So a process stays behind
    that asks for the head until the pod has ended; when the head is gone, it waits until no request is in flight, and ends the raylet,
    after which `ray start --block` ends.
    """
    time.sleep(settle_s)
    host, _, number = head.rpartition(":")
    address = (host, int(number))
    if _is_gone(address):
        _end(port, most_s, parent)
    elif os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):  # Kubernetes waits for a hook's output to close
            os.dup2(null, stream)
        while not _is_gone(address):
            time.sleep(PAUSE_S)
        _end(port, most_s, parent)


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


def _is_gone(address: tuple[str, int]) -> bool:
    for tried in range(TRIES):
        if tried:
            time.sleep(PAUSE_S)
        with contextlib.suppress(OSError):  # its name may be gone too
            socket.create_connection(address, CONNECT_S).close()
            return False
    return True


def _end(port: int, most_s: float, parent: int) -> None:
    wait_until_idle(port, most_s)
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            number, _, rest = process.read_text().partition(" (")
            name, _, fields = rest.rpartition(") ")
            if name == "raylet" and int(fields.split()[1]) == parent:
                os.kill(int(number), signal.SIGKILL)
