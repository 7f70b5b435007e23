"""Six tasks that ask for one CPU and run eight threads, beside tasks that ask for what they use: `python -m benchmarks.two_numbers`.

The story is of a cluster on which a run took nine times as long: pods asked for 1 CPU and used many, so that nodes were packed with them
until all waited. Here one node of Ray's with this machine's CPUs runs six tasks, each of which transcribes the same recordings by
tiny.en. Sides run in turns, in processes of their own whose model is loaded. The second number is memory: six tasks at once on a node of
4 GiB by what they ask for; Ray counts that when it places a task, and holds no task to it.
"""

import argparse
import json
import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import lanes
from benchmarks.commits import compared
from benchmarks.measure import Others, circumstances, recordings
from sonograph.compare.measured import Measured
from sonograph.compare.timeline import packed
from testing.service import ROOT

RESULTS = Path(__file__).with_name("results")
CLAIM = 9.0
"""Times that the run of the story took longer."""
TASKS = 6
RECORDINGS = {"openai-whisper": 12, "faster-whisper": 16}
"""Of each task: some seconds of work for one core."""
THREADS = 8
NODE_BYTES = 4 << 30
SMALL_BYTES = 256 << 20
HEADROOM = 1.1
"""Memory to ask for, by the most that a task used."""
console = Console(width=150)


@dataclass(frozen=True)
class Side:
    """A way to run the six tasks."""

    name: str
    engine: str
    asked_cpus: float
    threads: int
    asked_bytes: int | None = None
    recordings: int = 1


@dataclass(frozen=True)
class Run:
    """One round of a side."""

    tasks: Sequence[Measured]
    switches: int
    """Context switches of all tasks' threads."""

    @property
    def wall_s(self) -> float:
        return max(one.ended_s for one in self.tasks) - min(one.started_s for one in self.tasks)

    @property
    def cpu_s(self) -> float:
        return sum(one.cpu_s for one in self.tasks)

    @property
    def at_once(self) -> int:
        return max(packed(self.tasks)) + 1

    @property
    def most_bytes(self) -> int:
        """Memory of the tasks that ran at the same time, each with the most that it had."""
        return max(sum(one.peak_bytes for one in self.tasks if one.started_s <= at.started_s < one.ended_s) for at in self.tasks)


def sides(engine: str, cpus: int) -> list[Side]:
    """Return the side of the story, and the two ways to ask for what is used."""
    pairs = [(1, THREADS), (1, 1), (cpus, cpus)] if cpus > 1 else [(1, THREADS), (1, 1)]
    return [
        Side(
            f"asks for {count(asked, 'CPU')}, runs {count(threads, 'thread')}",
            engine,
            asked,
            threads,
            recordings=RECORDINGS[engine],
        )
        for asked, threads in pairs
    ]


def count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


_engines: dict[tuple[str, int], Any] = {}
"""Models of this process of Ray's, loaded by its first task."""


def transcribe(side: Side, contents: Sequence[bytes]) -> tuple[Measured, int]:
    """Transcribe the recordings in this process; return what it took, and the context switches."""
    from deployments.roles.speech_to_text import TranscribeRequest
    from deployments.whisper.engine import WhisperEngine
    from deployments.whisper.settings import WhisperSettings
    from graphs.audio.decode import decode
    from sonograph.compare.usage import PeakMemory, Usage

    started_s, memory, load_s = time.time(), PeakMemory(), 0.0
    if (side.engine, side.threads) not in _engines:
        settings = WhisperSettings.model_validate({"engine": side.engine})
        _engines[side.engine, side.threads] = WhisperEngine(settings.engine_config(threads=side.threads))
        load_s = time.time() - started_s
    model = _engines[side.engine, side.threads]
    audios = [decode(content, 60) for content in contents[: side.recordings]]
    before = _switches()
    with Usage(memory) as usage:
        for audio in audios:
            model.transcribe(TranscribeRequest(audio, "en"))
    switches = _switches() - before
    figures = {"wall_s": usage.wall_s, "cpu_s": usage.cpu_s, "threads": usage.threads, "cores": tuple(sorted(usage.cores))}
    length_s = sum(audio.size for audio in audios) / 16_000
    return (
        Measured(
            **figures,
            key="",
            role="speech-to-text",
            candidate=side.name,
            model="tiny.en",
            engine=side.engine,
            settings={},
            input=f"{len(audios)} recordings",
            length_s=length_s,
            asked_cpus=side.asked_cpus,
            asked_bytes=side.asked_bytes,
            node="node",
            pid=os.getpid(),
            started_s=started_s,
            ended_s=time.time(),
            load_s=load_s,
            peak_bytes=memory.most_bytes,
            text=None,
            mean_log_probability=None,
        ),
        switches,
    )


def _switches() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_nvcsw + used.ru_nivcsw


class Node:
    """Ray on this machine, with its CPUs and 4 GiB, as far as Ray counts them. Its processes stay until it ends, with their models."""

    def __init__(self, cpus: int) -> None:
        import ray

        kept = {"idle_worker_killing_time_threshold_ms": 3_600_000}
        ray.init("local", num_cpus=cpus, _memory=NODE_BYTES, _system_config=kept, include_dashboard=False, log_to_driver=False)
        self._ray: Any = ray
        self._task = ray.remote(transcribe)  # once: a second one would find no models of the first
        self._contents = ray.put(recordings(max(RECORDINGS.values())))

    def run(self, side: Side) -> Run:
        """Run six tasks of a side, in processes that run no other side's."""
        asked: dict[str, Any] = {"num_cpus": side.asked_cpus, "max_retries": 0}
        asked |= {"memory": side.asked_bytes} if side.asked_bytes else {}
        alone = {"env_vars": {"PYTHONPATH": str(ROOT), "BENCHMARK_SIDE": f"{side.engine}, {side.name}"}}
        task = self._task.options(**asked, runtime_env=alone)
        found = self._ray.get([task.remote(side, self._contents) for _ in range(TASKS)])
        return Run([one for one, _ in found], sum(switches for _, switches in found))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()


def rounds(run: Callable[[Side], Run], of: Sequence[Side], total: int) -> dict[str, list[Run]]:
    """Run the sides in turns, the order reversed every other time, after one round of one recording, which loads the models."""
    found: dict[str, list[Run]] = {side.name: [] for side in of}
    turns = [(number, side) for number in range(total + 1) for side in of[:: 1 if number % 2 else -1]]
    for number, side in track(turns, of[0].engine, console=console):
        if number:
            found[side.name].append(run(side))
        else:
            run(replace(side, recordings=1))
    return found


def summarized(found: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Compare the first side, which is the story's, with the quickest of the others."""
    story, *others = found
    best = min(others, key=lambda name: statistics.median(run.wall_s for run in found[name]))
    result: dict[str, Any] = {"claim": CLAIM, "story": story, "best": best, "sides": {}}
    for name, runs in found.items():
        result["sides"][name] = {
            "wall_s": statistics.median(run.wall_s for run in runs),
            "core_s": statistics.median(run.cpu_s for run in runs),
            "switches": statistics.median(run.switches for run in runs),
            "at_once": max(run.at_once for run in runs),
            "threads": max(one.threads for run in runs for one in run.tasks),
            "task_s": statistics.median(one.wall_s for run in runs for one in run.tasks),
            "loads": sum(one.load_s > 0 for run in runs for one in run.tasks),
            "rounds_s": [run.wall_s for run in runs],
        }
    for name, figure in (("wall", "wall_s"), ("core_seconds", "cpu_s"), ("switches", "switches")):
        ratio = compared(*([float(getattr(run, figure)) for run in found[side]] for side in (best, story)))
        result[name] = {key: ratio[key] for key in ("ratio", "low", "high")}
    return result


def memory(run: Callable[[Side], Run]) -> dict[str, Any]:
    """Run six tasks by a bound that is too small, then by what those used; each loads the model and has one recording."""
    small = run(Side("asks for too little memory", "openai-whisper", 0, 1, SMALL_BYTES))
    most = max(one.peak_bytes for one in small.tasks)
    fitting = min(NODE_BYTES, math.ceil(most * HEADROOM / 2**20) << 20)
    right = run(Side("asks for what it uses", "openai-whisper", 0, 1, fitting))
    return {
        "node_bytes": NODE_BYTES,
        "used_bytes": most,
        "sides": {
            name: {"asked_bytes": asked, "at_once": ran.at_once, "together_bytes": ran.most_bytes}
            for name, asked, ran in (("too small", SMALL_BYTES, small), ("right-sized", fitting, right))
        },
    }


def table(found: Mapping[str, Any]) -> Table:
    shown = Table("six tasks", "wall s", "core s", "context switches", "tasks at once", "threads of a task", "s of a task")
    for name, one in found["sides"].items():
        cells = [
            f"{one['wall_s']:.1f}",
            f"{one['core_s']:.1f}",
            f"{one['switches']:,.0f}",
            str(one["at_once"]),
            str(one["threads"]),
        ]
        shown.add_row(name, *cells, f"{one['task_s']:.1f}")
    return shown


def sentence(found: Mapping[str, Any]) -> str:
    one = found["wall"]
    return (
        f"{found['story']}: {one['ratio']:.2f} times the wall time ({one['low']:.2f} to {one['high']:.2f}) of the best, which "
        f"{found['best']}; {found['core_seconds']['ratio']:.2f} times the core-seconds; the claim is {found['claim']:g} times"
    )


def row(name: str, run: Run) -> lanes.Row:
    begin_s = min(one.started_s for one in run.tasks)
    places = packed(run.tasks)
    bars = [(one.started_s - begin_s, one.ended_s - begin_s, lane) for one, lane in zip(run.tasks, places, strict=True)]
    return lanes.Row(name, f"{run.wall_s:.0f} s, {run.cpu_s:.0f} core seconds", bars)


def middle(runs: Sequence[Run]) -> Run:
    """Return the round of the median wall time."""
    return sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="*", default=list(RECORDINGS), choices=RECORDINGS)
    arguments = parser.parse_args()
    cpus = len(psutil.Process().cpu_affinity() or [0])
    path = RESULTS / "two_numbers.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for engine in arguments.engines:
        with Node(cpus) as node:
            others = Others()
            found = rounds(node.run, sides(engine, cpus), arguments.rounds)
            noted = f"{circumstances()}; {others.cores:.1f} cores busy with other things"
        drawn = [asdict(row(name, middle(runs))) for name, runs in found.items()]
        results[engine] = {**summarized(found), "circumstances": noted, "drawn": drawn}
        console.print(table(results[engine]), sentence(results[engine]), noted)
    with console.status("Memory ..."), Node(cpus) as node:
        results["memory"] = memory(node.run)
    console.print_json(data=results["memory"])
    groups = {name: [lanes.Row(**one) for one in part["drawn"]] for name, part in results.items() if "drawn" in part}
    lanes.draw(RESULTS / "two_numbers.png", groups)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
