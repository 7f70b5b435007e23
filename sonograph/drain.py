"""`sonograph drain`, the preStop hook of a worker pod, and the wait before a server ends, with it Serve's proxy and its connections."""

import contextlib
import json
import math
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

TRIES, PAUSE_S, CONNECT_S = 3, 2.0, 5.0
"""Failed connections in a row after which the head counts as gone, the pause between two, and the limit of one."""
ASK_S = 60.0
"""Limit for one request to drain: a head that ends keeps its callers waiting."""

UNANSWERED_S = 15.0
"""Time after which a proxy that does not answer has no ingress any more: with the head gone it waits for one forever."""


def drain(
    head: Annotated[str, typer.Argument(help="Address of Ray's control store, HOST:PORT: KubeRay's $RAY_ADDRESS.")],
    settle_s: Annotated[float, typer.Option(min=0, help="Wait for the pod's removal from the Service, in seconds.")] = 5.0,
    most_s: Annotated[float, typer.Option(min=1, help="Longest drain, in seconds.")] = 435.0,
    idle_s: Annotated[float, typer.Option(min=0, help="Longest wait for requests once the head is gone, in seconds.")] = 150.0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Serve's port in this pod.")] = 8000,
    parent: Annotated[int, typer.Option(min=1, help="Process of `ray start --block`.")] = 1,
) -> None:
    """Drain this pod's Ray node, and return when its raylet has ended: a preStop hook.

    Ray starts the replacements of the node's replicas, and ends the raylet once it is idle. It would drain by itself on SIGTERM, but
    with the head gone (the whole cluster has been deleted) it would wait for its whole limit, and the pod would hold its GPU. So this
    returns too once the head is gone and no request is in flight here; SIGTERM, which follows, then ends Ray at once.
    """
    time.sleep(settle_s)
    deadline_s, asked = time.monotonic() + most_s, False
    while node := _node(parent):
        if time.monotonic() > deadline_s:
            print(f"the node has not drained within {most_s:g} s", file=sys.stderr)
            break
        if _is_gone(head):
            wait_until_idle(port, idle_s, unanswered_s=UNANSWERED_S)
            break
        asked = asked or _ask(head, node, deadline_s - time.monotonic())
        time.sleep(PAUSE_S)


def wait_until_idle(port: int, most_s: float, host: str = "127.0.0.1", unanswered_s: float = math.inf) -> None:
    """Return when the ingress reports no request in flight, when no ingress answers, or after `most_s` seconds.

    `unanswered_s`: time without an answer, though something listens, after which there is no ingress; it may only be busy.
    """
    begun_s = answered_s = time.monotonic()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        while time.monotonic() < min(begun_s + most_s, answered_s + unanswered_s):
            with (
                contextlib.suppress(TimeoutError),  # busy
                urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5) as answer,
            ):
                answered_s = time.monotonic()
                if json.load(answer)["requests"] == 0:
                    return
            time.sleep(0.2)


def _ask(head: str, node: str, seconds: float) -> bool:
    """Ask the control store to drain the node, and return whether it will. Its deadline tells Ray how long it has for that."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", head, "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "its pod is deleted"]
    command += ["--deadline-remaining-seconds", str(max(0, int(seconds)))]
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=ASK_S, check=True)
    except subprocess.SubprocessError as error:
        print(error, file=sys.stderr)
        return False
    return True


def _node(parent: int) -> str:
    """Return the id of the node whose raylet `ray start` runs, or nothing once that has ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            name, _, fields = (folder / "stat").read_text().partition(" (")[2].rpartition(") ")
            if name == "raylet" and int(fields.split()[1]) == parent:
                node = re.search(r"--node_id=(\w+)", (folder / "cmdline").read_text())
                if node:  # a zombie has no command
                    return node[1]
    return ""


def _is_gone(head: str) -> bool:
    host, _, port = head.rpartition(":")
    for tried in range(TRIES):
        if tried:
            time.sleep(PAUSE_S)
        with contextlib.suppress(OSError):  # its name may be gone too
            socket.create_connection((host, int(port)), CONNECT_S).close()
            return False
    return True
