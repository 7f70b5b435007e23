"""The gain of step-level batching: `python -m benchmarks.steps [alone] [mechanism] [saturated] [load] [known_load]`, or all.

It runs the diffusion engine and its batch without a server, in this process, on one torch thread, with the small model that ships. Its
peer is request-level batching: the same engine and bound, images that begin together and are returned when the last has ended;
a request that arrives meanwhile waits until then. A stronger peer, which no server has by itself, returns each image when it ends.
All sides run one after the other in one process, in an order that alternates between repetitions.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
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
from benchmarks.batching import RequestLevel, StepLevel, saturate
from benchmarks.load import arrivals, closed_loop, open_loop, percentile
from deployments.diffusion.denoising import Decoded, Denoising
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest

RESULTS = Path(__file__).with_name("results")
LIMIT = DiffusionSettings().max_batch
PAIRS = 7
SIDES = ("step", "request", "each-when-it-ends request")
SEED = 11
THINGS = ("a red apple", "a cat", "a blue house", "a tree", "a fish", "a yellow boat", "a dog", "a green frog")


def request(prompt: str, **options: Any) -> GenerateRequest:
    """A request with the default settings' steps and guidance scale where `options` name none."""
    return DiffusionSettings().with_defaults(GenerateRequest(prompt, **options))


def mixed(number: int) -> GenerateRequest:
    """A request of 4 to 20 steps, by a hash of its number."""
    steps = 4 + (number * 2654435761 % 2**32) % 17
    return request(THINGS[number % len(THINGS)], steps=steps, seed=number)


class KnownCost:
    """An engine whose UNet call takes `fixed_s`, and `image_s` for each image, and whose other work takes no time."""

    threads = 1

    def __init__(self, fixed_s: float, image_s: float) -> None:
        self._fixed_s, self._image_s = fixed_s, image_s

    def gain(self, images: int) -> float:
        return images * (self._fixed_s + self._image_s) / (self._fixed_s + images * self._image_s)

    def size(self, request: GenerateRequest) -> tuple[int, int]:
        return 8, 8

    def begin(self, request: GenerateRequest) -> Denoising:
        latents = torch.zeros(1, 4, 1, 1)
        return Denoising(
            8,
            8,
            1.0,
            False,
            SimpleNamespace(timesteps=range(request.steps or 0)),
            {},
            latents,
            latents,
            torch.zeros(1, 1, 1),
            None,
        )

    def predict(self, states: Sequence[Denoising]) -> list[torch.Tensor]:
        time.sleep(self._fixed_s + len(states) * self._image_s)
        return [state.latents for state in states]

    def advance(self, state: Denoising, predicted: torch.Tensor) -> None:
        state.step += 1

    def step(self, states: Sequence[Denoising]) -> None:
        for state, predicted in zip(states, self.predict(states), strict=True):
            self.advance(state, predicted)

    def decode(self, states: Sequence[Denoising]) -> list[Decoded]:
        return [Decoded(np.zeros((8, 8, 3), np.uint8), False) for _ in states]

    def wait(self) -> None:
        pass

    def preview(self, states: Sequence[Denoising]) -> list[Any]:
        return []


@dataclass(frozen=True)
class Goal:
    text: str
    measured: float
    met: bool
    low: float = float("nan")
    high: float = float("nan")
    """`low` and `high` are the 95% bootstrap interval of the median of pairs."""


@dataclass
class Result:
    goals: list[Goal]
    measurements: dict[str, Any] = field(default_factory=dict)


def paired(text: str, ratios: Sequence[float], at_most: float | None = None, at_least: float | None = None) -> Goal:
    """A goal that is met when the unfavourable end of the interval meets the bound."""
    low, high = measure.interval(ratios)
    met = high <= at_most if at_most is not None else low >= (at_least or 0.0)
    return Goal(text, statistics.median(ratios), met, low, high)


def pairs[Side, Measured](sides: Sequence[Side], run: Callable[[Side, int], Measured], name: str) -> list[list[Measured]]:
    """The measurements by pair, in the order of `sides`; the sides run in the order ABBA."""
    found = []
    for pair in track(range(PAIRS), name):
        order = range(len(sides)) if pair % 2 == 0 else reversed(range(len(sides)))
        results = {number: run(sides[number], pair) for number in order}
        found.append([results[number] for number in range(len(sides))])
    return found


def alone(engine: DiffusionEngine) -> Result:
    """Measure one client: the batch against the plain loop."""

    async def shared() -> list[float]:
        step_level, took_s = StepLevel(engine, LIMIT), []
        for seed in range(10):
            began_s = time.perf_counter()
            await step_level.generate(request("a red apple", seed=seed))
            took_s.append(time.perf_counter() - began_s)
        return took_s

    def plain() -> list[float]:
        took_s = []
        for seed in range(10):
            began_s = time.perf_counter()
            engine.generate(request("a red apple", seed=seed), {})
            took_s.append(time.perf_counter() - began_s)
        return took_s

    def run(side: str, pair: int) -> tuple[float, float]:
        cpu_s = time.process_time()
        took_s = asyncio.run(shared()) if side == "shared" else plain()
        return statistics.median(took_s), time.process_time() - cpu_s

    found = pairs(("shared", "plain"), run, "One client")
    return Result(
        [
            paired("one client: p50 with batching / without", [one[0] / other[0] for one, other in found], at_most=1.02),
            paired("one client: CPU with batching / without", [one[1] / other[1] for one, other in found], at_most=1.02),
        ],
        {"p50_s": [[side[0] for side in pair] for pair in found]},
    )


def mechanism(engine: DiffusionEngine) -> Result:
    """Measure 16 clients on an engine of known cost: the gain of batching, as a share of the formula's."""
    scripted = KnownCost(fixed_s=0.010, image_s=0.001)

    def run(limit: int, pair: int) -> float:
        return asyncio.run(saturate(StepLevel(scripted, limit).generate, mixed, 16, 32))[1]

    found = pairs((LIMIT, 1), run, "Known cost")
    gains = [alone_s / shared_s / scripted.gain(LIMIT) for shared_s, alone_s in found]
    return Result(
        [paired(f"known cost: gain / the formula's {scripted.gain(LIMIT):.2f}", gains, at_least=0.9)], {"wall_s": found}
    )


def saturated(engine: DiffusionEngine) -> Result:
    """Measure clients that never pause: the mean batch of a step, and the CPU of an image against the peer's."""
    goals, batches = [], []
    for clients in (2, 4, 8, 16):
        step_level = StepLevel(engine, LIMIT)

        batch_sizes = asyncio.run(_batch_sizes(step_level, clients, 8.0))
        mean = statistics.mean(batch_sizes)
        batches.append((clients, mean))
        share = mean / min(clients, LIMIT)
        goals.append(Goal(f"{clients} clients: mean step batch {mean:.2f} / min(clients, {LIMIT})", share, share >= 0.8))

    def run(side: Callable[[Any, int], Any], pair: int) -> tuple[float, float]:
        return asyncio.run(saturate(side(engine, LIMIT).generate, mixed, 16, 48))

    found = pairs((RequestLevel, StepLevel), run, "Saturated")
    cpu, wall = ([peer[unit] / ours[unit] for peer, ours in found] for unit in (0, 1))
    goals.append(paired("16 clients: images for a CPU second / request-level's", cpu, at_least=0.97))
    goals.append(paired("16 clients: images a second / request-level's", wall, at_least=0.97))
    return Result(goals, {"mean_batch": batches, "cpu_and_wall_s": found})


async def _batch_sizes(step_level: StepLevel, clients: int, seconds: float) -> list[int]:
    """Batch sizes while all clients send: without the first second, and without the calls after the last request began."""

    async def send(number: int) -> int:
        await step_level.generate(mixed(number))
        return 200

    asyncio.get_running_loop().call_later(1.0, step_level.batch_sizes.clear)
    batch_sizes: list[int] = []
    asyncio.get_running_loop().call_later(seconds, lambda: batch_sizes.extend(step_level.batch_sizes))
    await closed_loop(send, clients, seconds)
    return batch_sizes


def load(engine: DiffusionEngine) -> Result:
    """Measure Poisson arrivals at 70% of the highest rate of request-level batching."""
    return loaded(engine, "70% load")


def known_load(engine: DiffusionEngine) -> Result:
    """Measure `load` on an engine of known cost, for which one more image in a step costs little, as on a GPU with free capacity."""
    return loaded(KnownCost(fixed_s=0.010, image_s=0.001), "known cost, 70% load")


def loaded(engine: Any, what: str) -> Result:
    _, wall_s = asyncio.run(saturate(RequestLevel(engine, LIMIT).generate, mixed, 16, 64))
    per_s = 0.7 * 64 / wall_s
    first: list[float] = []

    def run(side: Callable[[Any, int], Any], pair: int) -> list[float]:
        server = side(engine, LIMIT)

        async def send(number: int) -> int:
            await server.generate(mixed(100 * pair + number))
            return 200

        responses = asyncio.run(open_loop(send, arrivals(per_s, 9.0, SEED + pair)))
        if isinstance(server, StepLevel):
            first.extend(server.to_first)
        return [response.latency_s for response in responses]

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
    return Result(goals, {"per_s": per_s, "latency_s": latency_s, "first_step_begins": _spread(begins)})


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}


BENCHMARKS = {one.__name__: one for one in (alone, mechanism, saturated, load, known_load)}


def draw_chart(results: dict[str, Any]) -> None:
    shares = [share / 20 for share in range(1, 20)]
    latency_s = results["load"]["latency_s"]
    names = [name for name in SIDES if name in latency_s]
    lines = [[(percentile(latency_s[name], share), share) for share in shares] for name in names]
    means = [(clients, mean) for clients, mean in results["saturated"]["mean_batch"]]
    chart.draw(
        RESULTS / "steps.png",
        [f"{name}-level batching" for name in names],
        [
            chart.Panel("Share of requests answered within s, at 70% load", "seconds", lines),
            chart.Panel("Mean images in a step, saturated", "clients", [means], level=float(LIMIT)),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=f"some of {', '.join(BENCHMARKS)}; all without one")
    names = parser.parse_args().names or list(BENCHMARKS)
    console = Console(width=150)
    path = RESULTS / "steps.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    engine = DiffusionEngine(EngineConfig(DiffusionSettings().model))
    for one in map(mixed, range(4)):
        engine.generate(one, {})
    met = True
    for name in names:
        others = measure.Others()
        result = BENCHMARKS[name](engine)
        table = Table("goal", "measured", "95% interval", "", title=name, title_justify="left")
        for goal in result.goals:
            met &= goal.met
            span = f"{goal.low:.3f} to {goal.high:.3f}" if goal.low == goal.low else ""
            table.add_row(goal.text, f"{goal.measured:.3f}", span, "met" if goal.met else "not met")
        console.print(table)
        beside = f"{measure.circumstances()}; others' cores {others.cores:.1f}"
        console.print(beside, soft_wrap=True)
        goals = [{key: value for key, value in vars(goal).items() if value == value} for goal in result.goals]
        results[name] = {"circumstances": beside, "goals": goals, **result.measurements}
    path.write_text(json.dumps(results, indent=1) + "\n")
    if {"load", "saturated"} <= set(results):
        draw_chart(results)
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
