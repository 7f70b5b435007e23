"""CPU and wall time of process trees, and who runs what: what every benchmark shares."""

import platform
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from graphs.cli import SAMPLE

SPEECH = Path(__file__).parent.parent / "tests" / "speech"


def recordings(count: int) -> list[bytes]:
    """The shipped sample, and sentences of the test speech."""
    return [path.read_bytes() for path in [SAMPLE, *sorted(SPEECH.glob("*.ogg"))][:count]]


def tree(root: int) -> list[psutil.Process]:
    process = psutil.Process(root)
    return [process, *process.children(recursive=True)]


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """User and system seconds since each process began; one that has ended counts no more."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


class Idle:
    """What processes cost when nobody asks anything of them: Ray's own heartbeats, health checks and the like."""

    def __init__(self, processes: list[psutil.Process], seconds: float) -> None:
        began = cpu_s(processes)
        time.sleep(seconds)
        self.cpu_per_s = (cpu_s(processes) - began) / seconds


def spread(values: list[float]) -> str:
    """Median, and the least and greatest."""
    return f"{statistics.median(values):8.1f}  ({min(values):.1f} to {max(values):.1f})"


def circumstances() -> str:
    """The machine, its load, and the commit."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()}, load {load}, commit {commit}"
