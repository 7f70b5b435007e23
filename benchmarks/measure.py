"""CPU time and memory of process trees, bootstrap intervals, and the record of a run: shared by every benchmark."""

import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from sonograph.greeting import SAMPLE

SPEECH = Path(__file__).parent.parent / "testing" / "speech"


def recordings(count: int) -> list[bytes]:
    """Return the shipped sample and sentences of the test speech."""
    return [path.read_bytes() for path in [SAMPLE, *sorted(SPEECH.glob("*.ogg"))][:count]]


DECODING = "graphs.audio.worker"
"""An argument of the processes that decode recordings."""


def tree(root: int) -> list[psutil.Process]:
    process = psutil.Process(root)
    return [process, *process.children(recursive=True)]


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """Return user and system seconds since each process began, without processes that have ended."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


class Idle:
    """CPU cost of idle processes: Ray's heartbeats, health checks and the like."""

    def __init__(self, processes: list[psutil.Process], seconds: float) -> None:
        began = cpu_s(processes)
        time.sleep(seconds)
        self.cpu_per_s = (cpu_s(processes) - began) / seconds


class Others:
    """Cores kept busy by processes other than this one and its children, ended ones included: shows whether a run was alone."""

    def __init__(self) -> None:
        self._began = self._now()

    @property
    def cores(self) -> float:
        """Average since this object was created."""
        (whole_s, ours_s, at_s), (began_whole_s, began_ours_s, began_s) = self._now(), self._began
        return max(0.0, (whole_s - began_whole_s - ours_s + began_ours_s) / (at_s - began_s))

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        whole_s = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        ours = tree(os.getpid())
        ended_s = 0.0
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                ended = process.cpu_times()
                ended_s += ended.children_user + ended.children_system
        return whole_s, cpu_s(ours) + ended_s, time.monotonic()


class Stalls:
    """Wake-up delays of a sleeping process: those of the machine itself and of its other tenants."""

    _SLEEPS = "import sys, time\nwhile True:\n t = time.perf_counter(); time.sleep(0.005); print(time.perf_counter() - t - 0.005)"

    def __enter__(self) -> "Stalls":
        self._file = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen([sys.executable, "-uc", self._SLEEPS], stdout=self._file)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._file.seek(0)
        self.late_s = [float(line) for line in self._file if line.endswith("\n")]
        self._file.close()


def spread(values: list[float]) -> str:
    """Format the median, and the least and greatest."""
    return f"{statistics.median(values):8.1f}  ({min(values):.1f} to {max(values):.1f})"


def interval(values: Sequence[float], of: Callable[[Sequence[float]], float] = statistics.median) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the median, or of another statistic `of`."""
    rng = random.Random(0)
    found = sorted(of(rng.choices(values, k=len(values))) for _ in range(2000))
    return found[50], found[1949]


def roles(root: int) -> dict[str, psutil.Process]:
    """Return the processes on a request's path: the proxy, the replicas, and the stubs with the models."""
    found = {}
    for process in tree(root):
        name = process.name()
        if name == "triton_python_backend_stub":
            name = f"stub of {_deployment(psutil.Process(process.ppid()).name())}"
        elif name.startswith("ray::ServeReplica"):
            name = f"replica of {_deployment(name)}"
        elif name.startswith("ray::ProxyActor"):
            name = "proxy"
        elif DECODING in process.cmdline():
            name = "decode worker" if DECODING in (process.parent() or process).cmdline() else "decode template"
        else:
            continue
        found[name] = process
    return found


def rss_mib(root: int) -> dict[str, float]:
    """Return the resident memory of each of `roles`."""
    return {name: process.memory_info().rss / 2**20 for name, process in roles(root).items()}


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process: shared memory counts by its share."""
    pss: int = psutil.Process(pid).memory_full_info().pss
    return pss / 2**20


def _deployment(replica: str) -> str:
    """Return the deployment in a replica's process title: `ray::ServeReplica:app:deployment`, and `.method` behind it in a call."""
    return replica.rsplit(":", 1)[-1].split(".")[0]


def machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()}"


def commit(checkout: Path = Path()) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def load() -> str:
    """Return the machine's load average over 1, 5 and 15 minutes."""
    return ", ".join(f"{value:.1f}" for value in psutil.getloadavg())


def record(
    path: Path, parts: Mapping[str, Callable[[int], dict[Any, Any]]], names: Iterable[str], pairs: int, console: Console
) -> None:
    """Run these parts and store each result in `path`, beside the earlier results of the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        others = Others()
        result = parts[name](pairs)
        by = f"{circumstances()}; {others.cores:.1f} cores busy with other things"
        console.print(by, "\n", soft_wrap=True)
        results[name] = {**result, "circumstances": by}
        path.write_text(json.dumps(results, indent=1) + "\n")


def circumstances() -> str:
    """Describe the machine, its load, and the commit."""
    return f"{machine()}, load {load()}, commit {commit()}"
