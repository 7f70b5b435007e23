"""The processes that hold a model: Triton's Python stubs, child processes of the replica."""

import contextlib
import os
import time
from pathlib import Path

import psutil

NAME = "triton_python_backend_stub"
NICENESS_ADDED = 10
"""Niceness added to the model process, so that the replica, which accepts and cancels requests, is scheduled first."""
MAX_NICENESS = 19
SHARED_MEMORY = Path("/dev/shm")
REGION = "triton_python_backend_shm_region_"
"""Beginning of the name of a stub's shared memory, which is an argument of its command line."""


def deprioritized_stubs() -> list[psutil.Process]:
    """This process's stubs, after raising their niceness."""
    stubs = [child for child in psutil.Process().children() if child.name() == NAME]
    for stub in stubs:
        _lower_priority(stub)
    return stubs


def _lower_priority(process: psutil.Process) -> None:
    """Raise the niceness of each thread, which on Linux has its own and passes it to its children.

    Ray starts a replica at 15 unless graphs/ray.env is set.
    """
    niceness = min(MAX_NICENESS, os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS_ADDED)
    for thread in process.threads():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, thread.id, niceness)


def unlink_shared_memory(stubs: list[psutil.Process]) -> None:
    """Remove the names of the stubs' shared memory, which stub and replica have mapped: it is freed with the last of them.

    Triton itself removes a name only when its server stops in order, and not when the replica dies or ends at once.
    """
    for stub in stubs:
        for argument in stub.cmdline():
            if argument.startswith(REGION):
                (SHARED_MEMORY / argument).unlink(missing_ok=True)


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, all threads, by its CPU clock; 0 once it has ended. One system call."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes the clock's id
    except OSError:
        return 0.0


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
