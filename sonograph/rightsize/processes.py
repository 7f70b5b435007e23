"""Use of a replica on this machine, from /proc: its process and those below it, Triton's stubs and the processes that decode."""

import contextlib
import time
from collections.abc import Callable

import psutil

from deployments.triton.processes import cpu_s
from sonograph.rightsize.used import Sample
from sonograph.threads import AT_WORK, PROC, ThreadTimes, thread_times

LOOKS_S = 0.2
"""Time between two looks at the threads that run."""


class Tree:
    """A process and those below it. CPU and memory are theirs in sum; threads are those of the process with most at work.

    A thread is at work that runs for a part of the time between two looks: of those that are only woken, several are seen at any moment.
    What those at work waited for a CPU counts apart: on a full machine it is what they would have used.
    """

    def __init__(self, root: psutil.Process, clock: Callable[[], float] = time.monotonic, at_work: float = AT_WORK) -> None:
        self._root = root
        self._at_work = at_work
        self._clock = clock
        self._processes = self._found()
        self._cpu_s = {one.pid: cpu_s(one.pid) for one in self._processes}
        self._at_s = self._looked_s = clock()
        self._times = {one.pid: thread_times(one.pid) for one in self._processes}
        self._threads: list[float] = []
        self._waited_s = 0.0

    def look(self) -> None:
        """Count the threads that were at work since the last look, and what they waited, for the next sample."""
        now_s, before = self._clock(), self._times
        self._times = {one.pid: thread_times(one.pid) for one in self._processes}
        least_s, self._looked_s = self._at_work * (now_s - self._looked_s), now_s
        most = 0
        for pid in self._times.keys() & before.keys():
            pairs = ((now, before[pid].get(thread, ThreadTimes())) for thread, now in self._times[pid].items())
            at_work = [(now, was) for now, was in pairs if now.ran_s - was.ran_s > least_s]
            most = max(most, len(at_work))
            self._waited_s += sum(max(0.0, now.waited_s - was.waited_s) for now, was in at_work)
        self._threads.append(most)

    def sample(self) -> Sample | None:
        """The use since the last sample; None once the process has ended."""
        if not self._root.is_running():
            return None
        self._processes = self._found()
        now_s, before = self._clock(), self._cpu_s
        self._cpu_s = {one.pid: cpu_s(one.pid) for one in self._processes}
        used_s = sum(max(0.0, after - before.get(pid, 0.0)) for pid, after in self._cpu_s.items())
        took_s, self._at_s = max(now_s - self._at_s, 1e-3), now_s
        threads, self._threads = tuple(self._threads), []
        waited_s, self._waited_s = self._waited_s, 0.0
        return Sample(used_s / took_s, sum(map(_resident, self._processes)), threads, waited_cpus=waited_s / took_s)

    def peak_bytes(self) -> float:
        """Most memory that each process has had since its start, in sum."""
        return sum(peak_bytes(one.pid) for one in self._processes)

    def _found(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [self._root, *self._root.children(recursive=True)]
        return [self._root]


def replica(pid: int | None, application: str, deployment: str) -> psutil.Process | None:
    """The process of a replica, where it is on this machine: its title, which Ray writes, says whose it is."""
    with contextlib.suppress(psutil.Error, ValueError, OverflowError, IndexError):
        if pid:
            process = psutil.Process(pid)
            title, own = process.cmdline()[0].strip(), f"ray::ServeReplica:{application}:{deployment}"
            return process if title == own or title.startswith(f"{own}.") else None  # behind the point is a method that runs
    return None


def peak_bytes(pid: int) -> float:
    """Highest resident memory of a process since its start; 0 once it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    return 0.0


def _resident(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(process.memory_info().rss)
    return 0.0
