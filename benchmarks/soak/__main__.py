"""Ten thousand mixed requests and two hundred deaths: `python -m benchmarks.soak`.

`sonograph serve` with its decoding processes and with models of known cost in real Triton servers (testing/known_cost), whose answers
follow from the requests. Eight callers send good, bad, cancelled and hostile requests, by a seed; each answer is compared with what it
should be. Between them one process of each model is killed: the stub that holds it, and every fifth time the replica. Memory, files and
threads of every process, and files in the service's own TMPDIR and in /dev/shm, are sampled while all models serve, before each two
deaths: an early window is compared with the last one.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.load import client
from benchmarks.measure import circumstances
from benchmarks.services import BINARIES, running, variables
from benchmarks.soak.caller import Caller, Outcome, hostile_recordings, refusals, sounds
from benchmarks.soak.growth import MOST, found, plot, table
from benchmarks.soak.processes import Processes, Sample
from testing.service import ROOT, Service, config, free_port

RESULTS = Path(__file__).parents[1] / "results"
SETTINGS = {"audio": {"decode_cpu_s": 0.3, "decode_cpu_s_per_s": 0.05}, "http": {"body_idle_timeout_s": 2.0}}
"""With less CPU for a hostile recording, and less time for a body that stops, ten thousand requests take less time."""
CALLERS = 8
MODELS = ("whisper", "diffusion")
REPLICA_EVERY = 5
"""Of so many deaths of a model's processes one is its replica's."""
REPLACED_S = 120.0
"""Longest time until a dead process is replaced."""


def start(folder: Path, tmp: Path) -> contextlib.AbstractContextManager[Service]:
    """Serve over models of known cost. `folder`: for files of the benchmark; `tmp`: the service's TMPDIR, which Ray uses too."""
    port = free_port()
    content = yaml.safe_load(config(port, **SETTINGS))
    content["applications"][0]["import_path"] = "testing.known_cost.app:app"
    path = folder / "sonograph.yaml"
    path.write_text(yaml.safe_dump(content))
    ours = {"TMPDIR": str(tmp), "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [str(BINARIES / "sonograph"), "serve", "--config", str(path), "--port", str(port)]
    return running(command, variables() | ours, port, folder, "/readyz")


async def die(service: Service, http: httpx.AsyncClient, is_replica: bool) -> float:
    """Kill a process of each model, and return the seconds until new ones serve. Raises TimeoutError."""
    old = {model: service.replica(model) for model in MODELS}
    stubs = {model: service.stub(model) for model in MODELS}
    began_s = time.monotonic()
    for process in (old if is_replica else stubs).values():
        process.kill()
    async with asyncio.timeout(REPLACED_S):
        while True:
            await asyncio.sleep(0.5)
            with contextlib.suppress(ValueError, psutil.Error):  # no replica, or two
                new = {model: (service.replica(model), service.stub(model)) for model in MODELS}
                replaced = all(new[model][0] != old[model] for model in MODELS)
                gone = not any(process.is_running() for process in (*old.values(), *stubs.values()))
                if replaced and gone and (await http.get("/readyz")).status_code == 200:
                    return time.monotonic() - began_s


async def run(service: Service, processes: Processes, requests: int, deaths: int, seed: int, console: Console) -> dict[str, Any]:
    outcome, at, samples, replaced_s = Outcome(), list[int](), list[Sample](), list[float]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rounds = max(1, deaths // len(MODELS))
    async with client(service.url) as http:
        with console.status("Noting each documented refusal ..."):
            refused = await refusals(http)
        with Progress(*columns, console=console) as progress:
            bars = [
                progress.add_task(name, total=total) for name, total in (("requests", requests), ("deaths", rounds * len(MODELS)))
            ]

            async def call(number: int) -> None:
                caller = Caller(http, random.Random(seed * 1000 + number), outcome, refused)
                while outcome.done < requests:
                    await caller.send()
                    progress.update(bars[0], completed=min(outcome.done, requests))

            async def kill() -> None:
                for number in range(rounds):
                    while outcome.done < (number + 1) * requests / (rounds + 1):  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
                    at.append(outcome.done)
                    samples.append(await asyncio.to_thread(processes.sample))
                    replaced_s.append(await die(service, http, number % REPLICA_EVERY == REPLICA_EVERY - 1))
                    progress.update(bars[1], advance=len(MODELS))

            async with asyncio.TaskGroup() as tasks:
                for number in range(CALLERS):
                    tasks.create_task(call(number))
                tasks.create_task(kill())
        await asyncio.sleep(2)
        left = (await http.get("/healthz")).json()["requests"]
    at.append(outcome.done)
    samples.append(processes.sample())
    return {
        "requests": outcome.done,
        "deaths": rounds * len(MODELS),
        "answers": dict(sorted(outcome.answers.items())),
        "retried": outcome.retried,
        "wrong": outcome.wrong,
        "lost": outcome.lost,
        "left": left,
        "replaced_s": [round(seconds, 1) for seconds in replaced_s],
        "at": at,
        "samples": samples,
    }


def ended(processes: Processes) -> list[str]:
    """End what is left of the service, and return its command lines."""
    left = processes.all()
    lines = [" ".join(process.cmdline())[:200] for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    return lines


def written(result: dict[str, Any]) -> str:
    """The result as JSON, with a line for each sample."""
    samples = ",\n".join(f"  {json.dumps(sample)}" for sample in result["samples"])
    rest = json.dumps({name: value for name, value in result.items() if name != "samples"}, indent=1)
    return rest.removesuffix("\n}") + f',\n "samples": [\n{samples}\n ]\n}}\n'


def report(result: dict[str, Any], console: Console) -> None:
    console.print("\n".join(table(result)), soft_wrap=True)
    shown = Table("goal", "met")
    shown.add_row("every answer is what it should be", str(result["wrong"][:5] or "yes"))
    shown.add_row("no request is lost, and none is left", str(result["lost"][:5] or result["left"] or "yes"))
    shown.add_row("no process is left", str(result["processes_left"] or "yes"))
    for owner, rays in (("the service's own", False), ("Ray's own", True)):
        grows, undecided = (found(result, verdict, rays) for verdict in ("grows", "not decided"))
        met = f"no: {', '.join(grows)}" if grows else f"not decided of {len(undecided)} figures" if undecided else "yes"
        shown.add_row(f"nothing of {owner} grows by more than {MOST:.0%} in 1,000 requests", met)
    console.print(shown)
    took = f"replaced after {statistics.median(result['replaced_s']):.0f} s, at most {max(result['replaced_s']):.0f} s"
    summary = f"{result['answers']}, {result['retried']} tries while a model was down, {took}; {result['minutes']} minutes"
    console.print(f"{summary}; {result['circumstances']}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--deaths", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="a folder for the result and its chart")
    options = parser.parse_args(arguments)
    console = Console(width=140)
    with console.status("Making recordings ..."):
        sounds()
        hostile_recordings()
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as tmp,
    ):  # a short path for sockets
        processes = Processes(Path(tmp))
        try:
            with start(Path(name), Path(tmp)) as service:
                result = asyncio.run(run(service, processes, options.requests, options.deaths, options.seed, console))
        finally:
            left = ended(processes)
    result = {"minutes": round((time.monotonic() - began_s) / 60, 1), "circumstances": circumstances(), **result}
    result["processes_left"] = left
    (options.out / "soak.json").write_text(written(result))
    plot(options.out / "soak.png", result)
    report(result, console)
    if result["wrong"] or result["lost"] or result["left"] or left or found(result, "grows", rays=False):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
