"""Use of CPU and memory by this process while a task computes: cores, threads, CPU time, and the highest resident memory."""

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Self

from sonograph.threads import AT_WORK, ThreadTimes, thread_times

INTERVAL_S = 0.05
RARE = 0.05
"""Share of the looks with the most threads that do not count."""
PROCESS = Path("/proc/self")


class PeakMemory:
    """The highest resident memory of this process since this object was made."""

    def __init__(self, process: Path = PROCESS) -> None:
        self._process = process
        self._sampled = 0
        try:
            (process / "clear_refs").write_text("5")  # sets VmHWM back
            self._exact = True
        except OSError:
            self._exact = False

    def sample(self) -> None:
        if not self._exact:
            pages = int((self._process / "statm").read_text().split()[1])
            self._sampled = max(self._sampled, pages * os.sysconf("SC_PAGESIZE"))

    @property
    def most_bytes(self) -> int:
        """By the kernel's own count, or where it cannot be set back the highest sample."""
        if not self._exact:
            self.sample()
            return self._sampled
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class Usage:
    """CPU time, threads and cores of this process within a block.

    A thread looks at all others every 50 ms; its own CPU does not count.
    """

    def __init__(self, memory: PeakMemory) -> None:
        self.cpu_s = self.wall_s = 0.0
        self.threads = 1
        """Most that ran, or waited for a core, at once, in a twentieth of the looks and in two: a moment does not count."""
        self.cores: set[int] = set()
        """CPUs that those threads were on."""
        self._memory = memory
        self._counts: list[int] = []
        """Threads at work, by look."""
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="usage", daemon=True)
        self._own_cpu_s = 0.0

    def __enter__(self) -> Self:
        self._times, self._at_s = thread_times(os.getpid()), time.monotonic()
        self._sampler.start()
        self._began_s, self._began_cpu_s = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        used_s = time.process_time() - self._began_cpu_s
        self.wall_s = time.perf_counter() - self._began_s
        self._ended.set()
        self._sampler.join()
        self.cpu_s = max(0.0, used_s - self._own_cpu_s)
        if not self.cores:
            self._look()
        rare = max(1, int(RARE * len(self._counts)))
        self.threads = max([1, *sorted(self._counts, reverse=True)[rare : rare + 1]])

    def _sample(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._counts.append(self._look())
            self._memory.sample()
            self._own_cpu_s = time.thread_time()

    def _look(self) -> int:
        """Note the cores of the threads that have worked since the last look; how many of them run now, or wait for a core."""
        times, at_s = thread_times(os.getpid()), time.monotonic()
        least_s = AT_WORK * (at_s - self._at_s)
        count = 0
        for thread, now in times.items():
            before = self._times.get(thread, ThreadTimes())
            if now.ran_s - before.ran_s > least_s and int(thread) != self._sampler.native_id:
                with contextlib.suppress(OSError):  # it has ended
                    state, *fields = _stat(thread)
                    self.cores.add(int(fields[35]))
                    count += state == b"R"
        self._times, self._at_s = times, at_s
        return count


def _stat(thread: str) -> list[bytes]:
    """Fields of proc_pid_stat(5) from the third one on: the second, a name in parentheses, may hold spaces."""
    return (PROCESS / "task" / thread / "stat").read_bytes().rpartition(b")")[2].split()
