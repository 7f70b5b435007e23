"""The processes that hold a model: Triton's Python stubs, children of the replica's."""

import psutil

NAME = "triton_python_backend_stub"
BEHIND = 5
"""Niceness of the process that computes: where CPUs are short, what takes requests, refuses and cancels goes first."""


def started() -> list[psutil.Process]:
    """Those of this process, put behind it."""
    stubs = [child for child in psutil.Process().children() if child.name() == NAME]
    for stub in stubs:
        stub.nice(BEHIND)
    return stubs


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
