"""What step-level batching gives: `python -m benchmarks.steps [alone] [mechanism] [saturated] [load] [known_load]`, or all.

The diffusion room's engine and batch alone, in this process, on one torch thread, with the small model that ships. Its peer is
request-level batching: the same engine and bound, pictures that begin together and are answered when the last has ended;
whoever comes meanwhile waits until then. A stronger peer, which no server has by itself, answers each when it ends.
All sides run one after the other in one process, the order changing from round to round.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import chart, measure
from benchmarks.load import arrivals, closed_loop, open_loop, percentile
from deployments.diffusion import DiffusionSettings
from deployments.diffusion.batch import Batch
from deployments.diffusion.encode import encode
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.types import Denoising, Prompt

RESULTS = Path(__file__).with_name("results")
LIMIT = DiffusionSettings().max_batch
PAIRS = 7
SIDES = ("step", "request", "each-when-it-ends request")
SEED = 11
THINGS = ("a red apple", "a cat", "a blue house", "a tree", "a fish", "a yellow boat", "a dog", "a green frog")
Draw = Callable[[Prompt], Awaitable[Any]]


def mixed(number: int) -> Prompt:
    """4 to 20 steps, by lot."""
    steps = 4 + (number * 2654435761 % 2**32) % 17
    return Prompt(THINGS[number % len(THINGS)], steps=steps, seed=number)


class StepLevel:
    """The service's, with a note of what its calls and first steps were."""

    def __init__(self, engine: Any, limit: int = LIMIT) -> None:
        self.rows: list[int] = []
        self.to_first: list[float] = []
        """From each request to the end of its first step, in steps as its own took on average."""
        self._batch = Batch(engine, limit, count=self.rows.append)

    async def draw(self, prompt: Prompt) -> None:
        asked_s, first_s = time.perf_counter(), list[float]()
        picture = await self._batch.draw(
            prompt, {}, tell=lambda step: first_s.append(time.perf_counter()) if step.done == 1 else None
        )
        self.to_first.append((first_s[0] - asked_s) / (picture.denoise_s / picture.steps))


class RequestLevel:
    """Pictures that begin together are a batch until the last of them has ended: then all are answered, or before, each when it ends."""

    def __init__(self, engine: DiffusionEngine, each_when_it_ends: bool = False) -> None:
        self._each_when_it_ends = each_when_it_ends
        self._engine = engine
        self._waiting: deque[tuple[Prompt, asyncio.Future[None]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(1, "diffusion", torch.set_num_threads, (engine.threads,))

    async def draw(self, prompt: Prompt) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(LIMIT, len(self._waiting)))]
            await loop.run_in_executor(self._worker, self._denoise, batch, loop)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _denoise(self, batch: list[tuple[Prompt, asyncio.Future[None]]], loop: asyncio.AbstractEventLoop) -> None:
        rows = [(self._engine.begin(prompt), done) for prompt, done in batch]
        while rows:
            self._engine.step([row for row, _ in rows])
            ended = [(row, done) for row, done in rows if row.done == row.of]
            rows = [(row, done) for row, done in rows if row.done < row.of]
            if ended:
                for (pixels, _), (_, done) in zip(self._engine.decode([row for row, _ in ended]), ended, strict=True):
                    encode(pixels, "png", {})
                    if self._each_when_it_ends:
                        loop.call_soon_threadsafe(done.set_result, None)


class KnownCost:
    """An engine whose UNet call takes `fixed_s` and `row_s` for each picture, and whose other work takes nothing."""

    threads = 1

    def __init__(self, fixed_s: float, row_s: float) -> None:
        self._fixed_s, self._row_s = fixed_s, row_s

    def gain(self, rows: int) -> float:
        return rows * (self._fixed_s + self._row_s) / (self._fixed_s + rows * self._row_s)

    def size(self, prompt: Prompt) -> tuple[int, int]:
        return 8, 8

    def begin(self, prompt: Prompt) -> Denoising:
        latents = torch.zeros(1, 4, 1, 1)
        return Denoising(
            8, 8, 1.0, False, SimpleNamespace(timesteps=range(prompt.steps)), {}, latents, torch.zeros(1, 1, 1), None
        )

    def predict(self, rows: Sequence[Denoising]) -> list[torch.Tensor]:
        time.sleep(self._fixed_s + len(rows) * self._row_s)
        return [row.latents for row in rows]

    def advance(self, row: Denoising, predicted: torch.Tensor) -> None:
        row.done += 1

    def step(self, rows: Sequence[Denoising]) -> None:
        for row, predicted in zip(rows, self.predict(rows), strict=True):
            self.advance(row, predicted)

    def decode(self, rows: Sequence[Denoising]) -> list[Any]:
        return [(np.zeros((8, 8, 3), np.uint8), False) for _ in rows]

    def preview(self, rows: Sequence[Denoising]) -> list[Any]:
        return []


@dataclass(frozen=True)
class Goal:
    text: str
    measured: float
    met: bool
    low: float = float("nan")
    high: float = float("nan")
    """The 95% bootstrap interval of the median of pairs."""


@dataclass
class Found:
    goals: list[Goal]
    figures: dict[str, Any] = field(default_factory=dict)


def paired(text: str, ratios: Sequence[float], at_most: float | None = None, at_least: float | None = None) -> Goal:
    """Met when the interval's bad end clears the line."""
    low, high = measure.interval(ratios)
    met = high <= at_most if at_most is not None else low >= (at_least or 0.0)
    return Goal(text, statistics.median(ratios), met, low, high)


def pairs[Side, Result](sides: Sequence[Side], run: Callable[[Side, int], Result], name: str) -> list[list[Result]]:
    """ABBA: by pair, in the order of `sides`."""
    found = []
    for pair in track(range(PAIRS), name):
        order = range(len(sides)) if pair % 2 == 0 else reversed(range(len(sides)))
        results = {number: run(sides[number], pair) for number in order}
        found.append([results[number] for number in range(len(sides))])
    return found


async def saturate(draw: Draw, clients: int, pictures: int) -> tuple[float, float]:
    """CPU seconds and wall seconds of `pictures` by so many clients that never pause."""
    numbers = iter(range(pictures))

    async def client() -> None:
        for number in numbers:
            await draw(mixed(number))

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def alone(engine: DiffusionEngine) -> Found:
    """One client: the batch against the plain loop."""

    async def shared() -> list[float]:
        step_level, took_s = StepLevel(engine), []
        for seed in range(10):
            began_s = time.perf_counter()
            await step_level.draw(Prompt("a red apple", seed=seed))
            took_s.append(time.perf_counter() - began_s)
        return took_s

    def plain() -> list[float]:
        took_s = []
        for seed in range(10):
            began_s = time.perf_counter()
            engine.generate(Prompt("a red apple", seed=seed), {})
            took_s.append(time.perf_counter() - began_s)
        return took_s

    def run(side: str, pair: int) -> tuple[float, float]:
        cpu_s = time.process_time()
        took_s = asyncio.run(shared()) if side == "shared" else plain()
        return statistics.median(took_s), time.process_time() - cpu_s

    found = pairs(("shared", "plain"), run, "One client")
    return Found(
        [
            paired("one client: p50 with batching / without", [one[0] / other[0] for one, other in found], at_most=1.02),
            paired("one client: CPU with batching / without", [one[1] / other[1] for one, other in found], at_most=1.02),
        ],
        {"p50_s": [[side[0] for side in pair] for pair in found]},
    )


def mechanism(engine: DiffusionEngine) -> Found:
    """16 clients on an engine of known cost: the gain of sharing, by the formula's."""
    known = KnownCost(fixed_s=0.010, row_s=0.001)

    def run(limit: int, pair: int) -> float:
        return asyncio.run(saturate(StepLevel(known, limit).draw, 16, 32))[1]

    found = pairs((LIMIT, 1), run, "Known cost")
    gains = [alone_s / shared_s / known.gain(LIMIT) for shared_s, alone_s in found]
    return Found([paired(f"known cost: gain / the formula's {known.gain(LIMIT):.2f}", gains, at_least=0.9)], {"wall_s": found})


def saturated(engine: DiffusionEngine) -> Found:
    """Clients that never pause: the mean step batch, and CPU for each picture against the peer's."""
    goals, batches = [], []
    for clients in (2, 4, 8, 16):
        step_level = StepLevel(engine)

        rows = asyncio.run(_within(step_level, clients, 8.0))
        mean = statistics.mean(rows)
        batches.append((clients, mean))
        share = mean / min(clients, LIMIT)
        goals.append(Goal(f"{clients} clients: mean step batch {mean:.2f} / min(clients, {LIMIT})", share, share >= 0.8))

    def run(side: Callable[[DiffusionEngine], Any], pair: int) -> tuple[float, float]:
        return asyncio.run(saturate(side(engine).draw, 16, 48))

    found = pairs((RequestLevel, StepLevel), run, "Saturated")
    cpu, wall = ([peer[unit] / ours[unit] for peer, ours in found] for unit in (0, 1))
    goals.append(paired("16 clients: pictures for a CPU second / request-level's", cpu, at_least=0.97))
    goals.append(paired("16 clients: pictures a second / request-level's", wall, at_least=0.97))
    return Found(goals, {"mean_batch": batches, "cpu_and_wall_s": found})


async def _within(step_level: StepLevel, clients: int, seconds: float) -> list[int]:
    """Rows of the calls while all clients were there: without the first second, and what came after the last request began."""

    async def send(number: int) -> int:
        await step_level.draw(mixed(number))
        return 200

    asyncio.get_running_loop().call_later(1.0, step_level.rows.clear)
    rows: list[int] = []
    asyncio.get_running_loop().call_later(seconds, lambda: rows.extend(step_level.rows))
    await closed_loop(send, clients, seconds)
    return rows


def load(engine: DiffusionEngine) -> Found:
    """Poisson arrivals at 70% of what request-level batching does at most."""
    return loaded(engine, "70% load")


def known_load(engine: DiffusionEngine) -> Found:
    """The same on an engine of known cost, for which another picture in a step costs little: as on a GPU that is not full."""
    return loaded(KnownCost(fixed_s=0.010, row_s=0.001), "known cost, 70% load")


def loaded(engine: Any, what: str) -> Found:
    _, wall_s = asyncio.run(saturate(RequestLevel(engine).draw, 16, 64))
    per_s = 0.7 * 64 / wall_s
    first: list[float] = []

    def run(side: Callable[[DiffusionEngine], Any], pair: int) -> list[float]:
        server = side(engine)

        async def send(number: int) -> int:
            await server.draw(mixed(100 * pair + number))
            return 200

        answers = asyncio.run(open_loop(send, arrivals(per_s, 9.0, SEED + pair)))
        if isinstance(server, StepLevel):
            first.extend(server.to_first)
        return [answer.latency_s for answer in answers]

    sides = (StepLevel, RequestLevel, partial(RequestLevel, each_when_it_ends=True))
    found = pairs(sides, run, f"{per_s:.1f} a second")
    means = [[statistics.mean(side) for side in pair] for pair in found]
    begins = [ended - 1 for ended in first]
    goals = [
        paired(f"{what}: mean latency / request-level's", [ours / peer for ours, peer, _ in means], at_most=0.6),
        paired(f"{what}: mean latency / the stronger peer's", [ours / peer for ours, _, peer in means], at_most=1.0),
        paired(f"{what}: steps from a request to its first step's beginning, median", begins, at_most=1.5),
    ]
    latency_s = {name: sorted(one for pair in found for one in pair[side]) for side, name in enumerate(SIDES)}
    return Found(goals, {"per_s": per_s, "latency_s": latency_s, "first_step_begins": _spread(begins)})


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}


ROWS = {row.__name__: row for row in (alone, mechanism, saturated, load, known_load)}


def draw(figures: dict[str, Any]) -> None:
    shares = [share / 20 for share in range(1, 20)]
    latency_s = figures["load"]["latency_s"]
    names = [name for name in SIDES if name in latency_s]
    lines = [[(percentile(latency_s[name], share), share) for share in shares] for name in names]
    means = [(clients, mean) for clients, mean in figures["saturated"]["mean_batch"]]
    chart.draw(
        RESULTS / "steps.png",
        [f"{name}-level batching" for name in names],
        [
            chart.Panel("Share of requests answered within s, at 70% load", "seconds", lines),
            chart.Panel("Mean pictures in a step, saturated", "clients", [means], level=float(LIMIT)),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=[], help=f"some of {', '.join(ROWS)}; all without one")
    names = parser.parse_args().rows or list(ROWS)
    console = Console(width=150)
    path = RESULTS / "steps.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    engine = DiffusionEngine(DiffusionSettings().model, threads=1)
    for prompt in map(mixed, range(4)):
        engine.generate(prompt, {})
    met = True
    for name in names:
        others = measure.Others()
        found = ROWS[name](engine)
        table = Table("goal", "measured", "95% interval", "", title=name, title_justify="left")
        for goal in found.goals:
            met &= goal.met
            span = f"{goal.low:.3f} to {goal.high:.3f}" if goal.low == goal.low else ""
            table.add_row(goal.text, f"{goal.measured:.3f}", span, "met" if goal.met else "not met")
        console.print(table)
        beside = f"{measure.circumstances()}; others' cores {others.cores:.1f}"
        console.print(beside, soft_wrap=True)
        goals = [{key: value for key, value in vars(goal).items() if value == value} for goal in found.goals]
        results[name] = {"circumstances": beside, "goals": goals, **found.figures}
    path.write_text(json.dumps(results, indent=1) + "\n")
    if {"load", "saturated"} <= set(results):
        draw(results)
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
