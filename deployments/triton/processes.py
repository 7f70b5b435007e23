"""The processes that hold a model: Triton's Python stubs, children of the replica's."""

import contextlib
import os

import psutil

NAME = "triton_python_backend_stub"
BEHIND = 10
"""So much nicer than its replica is the process that computes: what takes requests, refuses and cancels goes first."""
NICEST = 19


def started() -> list[psutil.Process]:
    """Those of this process, put behind it."""
    stubs = [child for child in psutil.Process().children() if child.name() == NAME]
    for stub in stubs:
        _put_behind(stub)
    return stubs


def _put_behind(process: psutil.Process) -> None:
    """Niceness is a thread's on Linux, and its children's. Ray starts a replica with its own, 15 unless graphs/ray.env is set."""
    niceness = min(NICEST, os.getpriority(os.PRIO_PROCESS, os.getpid()) + BEHIND)
    for thread in process.threads():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, thread.id, niceness)


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
