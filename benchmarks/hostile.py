"""Costs of hostile recordings: `python -m benchmarks.hostile [--of FOLDER --name before]`.

For each kind of testing/hostile.py, sent to a running service of this checkout, or of another one: the memory that the ingress and its
decoding processes take more than before (PSS, the largest sum), their CPU, and the time until an honest recording that is sent a tenth
of a second later has its transcript. Results are kept by name, and the chart shows all of them.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import chart
from benchmarks.measure import circumstances, commit, pss_mib, recordings
from benchmarks.services import running, variables
from testing.hostile import KINDS
from testing.service import ROOT, Service, config, free_port

RESULTS = Path(__file__).with_name("results")
LATER_S = 0.1
ALONE = 7
"""Honest requests that are measured alone."""
MOST_MIB = 150
"""Goal of the memory, besides the upload and the samples."""
SAMPLES_MIB = 60.5 * 16_000 * 2 / 2**20
START = "from sonograph.cli import main; main()"


@dataclass(frozen=True)
class Cost:
    upload_mib: float
    memory_mib: float
    """The largest sum of the processes' PSS, less the sum before."""
    cpu_s: float
    honest_s: float
    """From the honest request until its answer."""
    status: int
    """Of the hostile request; 0 for none."""


class Watch(threading.Thread):
    """The largest memory of a process and its descendants, in MiB, while its block runs."""

    def __init__(self, root: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._root, self._over = root, threading.Event()
        self.before_mib = self.peak_mib = memory_mib(root)

    def run(self) -> None:
        while not self._over.wait(0.005):
            self.peak_mib = max(self.peak_mib, memory_mib(self._root))

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def memory_mib(root: psutil.Process) -> float:
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error, OSError):
            total += pss_mib(process.pid)
    return total


def cpu_s(root: psutil.Process) -> float:
    """CPU of a process and its descendants, those that have ended included."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + (times.children_user + times.children_system if process != root else 0.0)
    return total


def transcribe(url: str, recording: bytes) -> float:
    """Seconds until the transcript."""
    started_s = time.monotonic()
    httpx.post(f"{url}/v1/audio/transcriptions", files={"file": recording}, timeout=120).raise_for_status()
    return time.monotonic() - started_s


def send(service: Service, recording: bytes, honest: bytes) -> Cost:
    ingress = service.replica("ingress")
    before_s = cpu_s(ingress)
    with Watch(ingress) as watch, ThreadPoolExecutor(1) as executor:
        answer = executor.submit(service.post, recording)
        time.sleep(LATER_S)
        honest_s = transcribe(service.url, honest)
        try:
            status = answer.result(150).status_code
        except httpx.TransportError:
            status = 0
    time.sleep(0.2)
    used_s = cpu_s(ingress) - before_s
    return Cost(len(recording) / 2**20, watch.peak_mib - watch.before_mib, used_s, honest_s, status)


def measure(checkout: Path, console: Console) -> dict[str, object]:
    (honest,) = recordings(1)
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "sonograph.yaml").write_text(config(port))
        command = [sys.executable, "-c", START, "serve", "--config", str(folder / "sonograph.yaml"), "--port", str(port)]
        environment = variables(checkout) | {"XDG_STATE_HOME": name, "PYTHONPATH": str(checkout)}
        with running(command, environment, port, folder, "/readyz", checkout) as service:
            alone = [transcribe(service.url, honest) for _ in range(ALONE + 2)][2:]
            rows = {}
            for kind, make in track(KINDS.items(), "Sending hostile recordings", console=console):
                rows[kind] = send(service, make(), honest)
    by = f"{circumstances()}; measured: {commit(checkout)}"
    return {"alone_s": statistics.median(alone), "rows": {kind: asdict(one) for kind, one in rows.items()}, "circumstances": by}


def table(results: Mapping[str, dict[str, object]]) -> list[str]:
    """The lines of a Markdown table of all results."""
    names = list(results)
    figures = ("memory, MiB", "CPU, s", "next honest answer, s")
    heads = [f"{figure}: {name}" if len(names) > 1 else figure for figure in figures for name in names]
    lines = [f"| kind | upload, MiB | {' | '.join(heads)} |", "|---|" + "---:|" * (1 + len(heads))]
    for kind in KINDS:
        costs = [results[name]["rows"][kind] for name in names]  # type: ignore[index]
        values = [
            f"{cost[figure]:.{digits}f}"
            for figure, digits in (("memory_mib", 0), ("cpu_s", 1), ("honest_s", 1))
            for cost in costs
        ]
        lines.append(f"| {kind} | {costs[0]['upload_mib']:.2f} | {' | '.join(values)} |")
    return lines


def plot(path: Path, results: Mapping[str, dict[str, object]]) -> None:
    def bars(title: str, figure: str) -> chart.Bars:
        found = [
            chart.Bar(kind if number == 0 else "", result["rows"][kind][figure], number)  # type: ignore[index]
            for kind in KINDS
            for number, result in enumerate(results.values())
        ]
        return chart.Bars(title, found)

    chart.draw(path, list(results), [bars("Memory, MiB", "memory_mib"), bars("Next honest answer, s", "honest_s")])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, default=ROOT, help="a checkout, such as a worktree of an earlier commit")
    parser.add_argument("--name", default="now", help="the results' name")
    options = parser.parse_args(arguments)
    console = Console(width=140)
    path = RESULTS / "hostile.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[options.name] = measure(options.of.resolve(), console)
    path.write_text(json.dumps(results, indent=1) + "\n")
    plot(RESULTS / "hostile.png", results)
    console.print("\n".join(table(results)), soft_wrap=True)
    shown = Table("goal", "met")
    rows = results[options.name]["rows"]
    most_mib = max(row["memory_mib"] - row["upload_mib"] for row in rows.values())
    shown.add_row(
        f"at most {MOST_MIB} MiB beside the upload and the samples ({SAMPLES_MIB:.1f} MiB)", f"{most_mib:.0f} with the samples"
    )
    shown.add_row("every hostile recording is answered", str(all(row["status"] for row in rows.values())))
    console.print(shown)


if __name__ == "__main__":
    main()
