"""Cost of the whole graph under load: `python -m benchmarks.graph [tracks] [clients]`, both without a name.

tracks: 16 clients send spoken sentences of 3 to 12 s without a pause, in turns to the blog article's architecture of the graph
on the same engines (peers/article), to this service with its default settings, to this service with a delay that fills the batches
of pictures (exact: same weights, precision and steps), to this service tuned (the same delay, adaptive padding; bf16 where the CPU
has it, else Whisper in int8 by faster-whisper), and to the engines alone in one script at their best batch (bare), exact and tuned,
where eight pictures begin together. All sides run at the same time and one works at a time; the order is reversed every
other round. CPU is that of a side's whole process tree, less its idle cost.
clients: CPU cost of one request by the number of clients, from 1 to 64.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import chart
from benchmarks.load import client
from benchmarks.measure import Idle, cpu_s, interval, record
from benchmarks.padding import Audio, transcribe
from benchmarks.services import article, sonograph
from benchmarks.transcription import recordings, word_error_rate
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest
from deployments.torch_runtime import cpu_has_bf16
from deployments.whisper.settings import WhisperSettings
from testing.media import wav

RESULTS = Path(__file__).with_name("results")
CLIENTS = 16
COUNTS = (1, 2, 4, 8, 16, 32, 64)
MOST = 56
"""The largest bound on concurrent requests that an ingress accepts; with more clients some are refused now and then."""
TRIES = 120
REQUESTS = 24
"""Requests to a side in a round."""
MIN_REQUESTS = 8
"""The least number of requests in a round, for any number of clients."""
IDLE_S = 10.0
EXACT: dict[str, dict[str, Any]] = {"diffusion": {"max_queue_delay_s": 1}}
"""A batch of Whisper takes longer, so that a picture waits for the texts of one batch."""
FASTER: dict[str, dict[str, Any]] = (
    {"whisper": {"padding": "adaptive", "precision": "bf16"}, "diffusion": {"precision": "bf16"}}
    if cpu_has_bf16()
    else {"whisper": {"padding": "adaptive", "engine": "faster-whisper"}}
)
TUNED = FASTER | {"diffusion": FASTER.get("diffusion", {}) | EXACT["diffusion"]}
GRAPH = {"exact": 1.15, "tuned": 3.0}
"""Goals: how many times less CPU than the article's architecture."""
BARE = {"exact": 0.90, "tuned": 0.85}
"""Goals: the engines' own share of the CPU."""
STEADY = 1.05
"""Goal: the most that a request may cost by the cost at the previous number of clients."""
console = Console(width=140)


@dataclass(frozen=True)
class Side:
    """One of the compared systems."""

    process: psutil.Process
    draw: Callable[[int, int], list[str]]
    """Function that sends so many requests by so many clients; returns the transcripts by request, where the side reports them."""
    idle_cpu_per_s: float

    def cost(self, requests: int, clients: int) -> tuple[float, float, list[str]]:
        """Return CPU seconds and wall seconds of one request, and the texts."""
        processes = [self.process, *self.process.children(recursive=True)]
        began_cpu_s, began_s = cpu_s(processes), time.perf_counter()
        texts = self.draw(requests, clients)
        took_s = time.perf_counter() - began_s
        return (cpu_s(processes) - began_cpu_s - self.idle_cpu_per_s * took_s) / requests, took_s / requests, texts


async def post(http: httpx.AsyncClient, recording: bytes) -> httpx.Response:
    for _ in range(TRIES):
        answer = await http.post("/graph", files={"file": recording}, headers={"Accept": "application/json"})
        if answer.status_code != 503:
            break
        await asyncio.sleep(1)
    return answer.raise_for_status()


def drawer(url: str, spoken: Sequence[bytes]) -> Callable[[int, int], list[str]]:
    """Return `Side.draw` by `POST /graph`: a refused client retries after a second, and any other error ends the benchmark."""

    async def run(requests: int, clients: int) -> list[str]:
        numbers, texts = iter(range(requests)), [""] * requests
        async with client(url) as http:

            async def caller() -> None:
                for number in numbers:
                    recording = spoken[number % len(spoken)]
                    answer = await post(http, recording)
                    if answer.headers["content-type"].startswith("application/json"):
                        texts[number] = answer.json()["transcript"]

            await asyncio.gather(*(caller() for _ in range(clients)))
        return texts

    return lambda requests, clients: asyncio.run(run(requests, clients))


def bare(connection: Connection, audios: Sequence[Audio], batch: int, settings: dict[str, dict[str, Any]]) -> None:
    """Run both engines in this process, each on its own thread: one batch is drawn while the next is transcribed."""
    from deployments.diffusion.encode import encode
    from deployments.diffusion.engine import DiffusionEngine
    from deployments.whisper.engine import WhisperEngine

    defaults = DiffusionSettings(**settings.get("diffusion", {}))
    whisper = WhisperEngine(WhisperSettings(**settings.get("whisper", {})).engine_config())
    diffusion = DiffusionEngine(EngineConfig(defaults.model, precision=defaults.precision))

    def draw_batch(texts: Sequence[str]) -> None:
        states = [diffusion.begin(defaults.with_defaults(GenerateRequest(text, seed=seed))) for seed, text in enumerate(texts)]
        while states[0].step < states[0].steps:
            diffusion.step(states)
        for pixels, _ in diffusion.decode(states):
            encode(pixels, "png", {})

    connection.send(os.getpid())
    with ThreadPoolExecutor(1) as drawing:
        for requests in iter(connection.recv, None):
            texts, pictures = list[str](), []
            for group in itertools.batched((audios[number % len(audios)] for number in range(requests)), batch):
                transcripts = transcribe(whisper, group, batch)
                texts += transcripts
                pictures.append(drawing.submit(draw_batch, transcripts))
            for picture in pictures:
                picture.result()
            connection.send(texts)


@contextlib.contextmanager
def script(audios: Sequence[Audio], settings: dict[str, dict[str, Any]]) -> Iterator[Side]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=bare, args=(theirs, audios, WhisperSettings().max_batch, settings), daemon=True
    )
    process.start()

    def draw(requests: int, clients: int) -> list[str]:
        ours.send(requests)
        texts: list[str] = ours.recv()
        return texts

    try:
        yield Side(psutil.Process(ours.recv()), draw, 0.0)
    finally:
        ours.send(None)
        process.join(30)


def sides(stack: contextlib.ExitStack, audios: Sequence[Audio]) -> dict[str, Side]:
    """Start every side and warm it up."""
    spoken = [wav(audio.tobytes()) for audio in audios]
    started: dict[str, Any] = {}
    for name, start in (
        ("article", article),
        ("default", sonograph),
        ("exact", lambda folder: sonograph(folder, EXACT)),
        ("tuned", lambda folder: sonograph(folder, TUNED)),
    ):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started[name] = stack.enter_context(start(folder))
        drawer(started[name].url, spoken)(2, 1)  # the article's service loads its models now
    found = {}
    for name, service in started.items():
        process = psutil.Process(service.process.pid)
        idle = Idle([process, *process.children(recursive=True)], IDLE_S)
        found[name] = Side(process, drawer(service.url, spoken), idle.cpu_per_s)
    for name, settings in (("bare exact", {}), ("bare tuned", TUNED)):
        found[name] = stack.enter_context(script(audios, settings))
    for side in found.values():
        side.draw(CLIENTS, CLIENTS)
    return found


def shuffled() -> list[tuple[Audio, list[str]]]:
    """Return the recordings and their words in a mixed order: by length, a script's batches would waste less padding than any service's."""
    found = recordings()
    random.Random(0).shuffle(found)
    return found


def tracks(pairs: int) -> dict[str, Any]:
    audios, references = zip(*shuffled(), strict=True)
    cpu: dict[str, list[float]] = {}
    wall: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    with contextlib.ExitStack() as stack:
        compared = sides(stack, audios)
        for pair in track(range(pairs), "Rounds", console=console):
            for name in list(compared)[:: 1 if pair % 2 else -1]:
                cost, wall_s, texts[name] = compared[name].cost(REQUESTS, CLIENTS)
                cpu.setdefault(name, []).append(cost)
                wall.setdefault(name, []).append(wall_s)
    table = Table("", "CPU s a request", "wall s a request", "word error rate")
    for name in compared:
        rate = f"{word_error_rate(texts[name][: len(references)], references):.1%}" if texts[name][0] else ""
        table.add_row(name, f"{statistics.median(cpu[name]):.3f}", f"{statistics.median(wall[name]):.3f}", rate)
    console.print(f"{CLIENTS} clients, {REQUESTS} requests a round, {pairs} rounds", table)
    same = sum(a == b for a, b in zip(texts["exact"], texts["bare exact"], strict=True))
    console.print(f"exact: {same} of {REQUESTS} texts are those of the engine alone")
    goals = [
        *(_goal(f"article / {name}", cpu, wall, "article", name, line) for name, line in GRAPH.items()),
        *(_goal(f"bare / {name}", cpu, wall, f"bare {name}", name, line) for name, line in BARE.items()),
        _goal("bare / default", cpu, wall, "bare exact", "default", 0.0),  # has no goal
    ]
    shown = Table("", "by CPU (95% interval)", "by wall (95% interval)", "at least, by CPU", "")
    for goal in goals:
        spans = [f"{goal[unit][0]:.2f} ({goal[unit][1]:.2f} to {goal[unit][2]:.2f})" for unit in ("cpu", "wall")]
        line, met = goal["line"], goal["cpu"][1] >= goal["line"]
        shown.add_row(goal["of"], *spans, *((f"{line:g}", "met" if met else "not met") if line else ("", "")))
    console.print(shown)
    return {"cpu_s": cpu, "wall_s": wall, "goals": goals, "same_texts": same}


def _goal(
    of: str, cpu: dict[str, list[float]], wall: dict[str, list[float]], peer: str, name: str, line: float
) -> dict[str, Any]:
    found: dict[str, Any] = {"of": of, "line": line}
    for unit, costs in (("cpu", cpu), ("wall", wall)):
        ratios = [theirs / ours for theirs, ours in zip(costs[peer], costs[name], strict=True)]
        found[unit] = [statistics.median(ratios), *interval(ratios)]
    return found


def clients(pairs: int) -> dict[str, Any]:
    audios, _ = zip(*shuffled(), strict=True)
    spoken = [wav(audio.tobytes()) for audio in audios]
    costs: dict[int, list[float]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as folder, sonograph(Path(folder), {"http": {"max_concurrent_requests": MOST}}) as service:
        process = psutil.Process(service.process.pid)
        draw = drawer(service.url, spoken)
        draw(CLIENTS, CLIENTS)
        side = Side(process, draw, Idle([process, *process.children(recursive=True)], IDLE_S).cpu_per_s)
        for pair in track(range(pairs), "Rounds", console=console):
            for count in COUNTS[:: 1 if pair % 2 else -1]:
                costs[count].append(side.cost(max(MIN_REQUESTS, count), count)[0])
    table = Table("clients", "CPU s a request", f"by the previous (at most {STEADY})", "95% interval")
    previous: list[float] = []
    for count, values in costs.items():
        ratios = [one / other for one, other in zip(values, previous, strict=True)] if previous else []
        low, high = interval(ratios) if ratios else (0.0, 0.0)
        shown = (f"{statistics.median(ratios):.3f}", f"{low:.3f} to {high:.3f}") if ratios else ("", "")
        table.add_row(str(count), f"{statistics.median(values):.3f}", *shown)
        previous = values
    console.print(table)
    return {"cpu_s": costs}


def draw_chart(found: dict[str, Any]) -> None:
    """Draw the results of both parts, in the form of their file."""
    cpu = {name: statistics.median(costs) for name, costs in found["tracks"]["cpu_s"].items()}
    shown = {"article": (1, "article"), "default": (0, "default"), "exact": (0, "exact"), "bare exact": (2, "exact")}
    shown |= {"tuned": (0, "tuned"), "bare tuned": (2, "tuned")}
    bars = [chart.Bar(label, cpu[name], of) for name, (of, label) in shown.items()]
    line = [(float(count), statistics.median(values)) for count, values in found["clients"]["cpu_s"].items()]
    chart.draw(
        RESULTS / "graph.png",
        ["this service", "the article's architecture", "the engines alone"],
        [
            chart.Bars(f"CPU seconds a request, {CLIENTS} clients", bars),
            chart.Panel("CPU seconds a request (exact)", "clients", [line]),
        ],
    )


PARTS = {"tracks": tracks, "clients": clients}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    path = RESULTS / "graph.json"
    record(path, PARTS, arguments.parts or PARTS, arguments.pairs, console)
    if set(PARTS) <= set(found := json.loads(path.read_text())):
        draw_chart(found)


if __name__ == "__main__":
    main()
