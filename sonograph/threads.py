"""Times of a process's threads, from /proc: what `compare` and `rightsize` count as threads at work."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
AT_WORK = 0.05
"""Share of an interval that a thread runs for to count as at work: eight threads that share two cores run for a quarter each."""


class ThreadTimes(NamedTuple):
    """Seconds since a thread's start for which it ran, and for which it could have run and had no CPU."""

    ran_s: float = 0.0
    waited_s: float = 0.0


def thread_times(pid: int, proc: Path = PROC) -> dict[str, ThreadTimes]:
    """Times of each thread of a process; none of a process that has ended."""
    found = dict[str, ThreadTimes]()
    with contextlib.suppress(OSError):
        for task in os.scandir(proc / str(pid) / "task"):
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
                found[task.name] = _times(Path(task.path))
    return found


def _times(task: Path) -> ThreadTimes:
    try:
        ran, waited = (int(part) / 1e9 for part in (task / "schedstat").read_bytes().split()[:2])
        return ThreadTimes(ran, waited)
    except FileNotFoundError:  # a kernel without these statistics
        ticks = (task / "stat").read_bytes().rpartition(b")")[2].split()[11:13]
        return ThreadTimes(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
