"""CPU of a request by an old commit and by a new one: `python -m benchmarks.commits OLD_FOLDER NEW_FOLDER`.

Each folder is a checkout of one commit, such as a worktree. Both sides serve at the same time, each in a Ray cluster of its own: the real
proxy and ingress of the checkout, over models of known cost, which sleep instead of computing and answer the same every time. A pair is
the same requests to both sides in turns of some requests, and the order alternates. CPU is that of Serve's proxy and the three replicas.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import httpx_sse
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.load import client
from benchmarks.measure import Idle, commit, cpu_s, interval, record, recordings, roles
from benchmarks.services import BINARIES, running, variables
from testing.service import Service, free_port

RESULTS = Path(__file__).with_name("results")
GOAL = 1.03
"""The upper end of the interval of new / old."""
AT_ONCE = (1, 8)
TURNS = 4
"""Of each side in a pair, so that a drift of the machine within the pair affects both sides."""
WARM_UP = 120
"""Requests: the latency estimates are of the last 100."""
IDLE_S = 10.0
(RECORDING,) = recordings(1)
ANSWERS = {"image": "image/png", "JSON": "application/json", "events": "text/event-stream"}
CHANGING = ("request_id", "timings_ms")
"""Fields of an answer that differ from request to request."""
IMPORTS = {
    "graphs/ingress.py": """
        from deployments.compute_time import ComputeTime
        from deployments.roles.speech_to_text import Segment, Transcript
        from deployments.roles.text_to_image import Image, Step
        from graphs.ingress import Ingress
        from graphs.settings import Settings
        """,
    "graphs/stages.py": """
        from deployments.cost import Cost as ComputeTime
        from deployments.diffusion import Image, Step
        from deployments.whisper import Segment, Transcript
        from graphs.settings import VoiceToImageSettings as Settings
        from graphs.voice_to_image import VoiceToImage as Ingress
        """,
}
"""Imports of the module `known_cost` by a file that only such a checkout has: up to 0e8bdd0 the ingress was the graph."""
KNOWN_COST = """
import asyncio
import random

from ray import serve

STEPS = 12
PNG = b"\\x89PNG\\r\\n\\x1a\\n" + random.Random(0).randbytes(5_000)
SEGMENT = Segment(0.0, 1.5, "a red apple", -0.25, 0.125)


class Whisper:
    async def run(self, *request, **options):
        await asyncio.sleep(0.02)
        return Transcript("a red apple", "en", (SEGMENT,), model="tiny.en", compute_time=ComputeTime(0.0, 0.02, 1))

    async def stream(self, *request, **options):
        yield SEGMENT
        yield await self.run()

    transcribe, transcribe_stream = run, stream
    run_traced, stream_traced = run, stream


class Diffusion:
    async def run(self, *request, **options):
        await asyncio.sleep(0.05)
        return Image(PNG, 64, 64, False, 2.0, model="tiny", compute_time=ComputeTime(0.002, 0.004, STEPS))

    async def stream(self, *request, **options):
        for step in range(1, STEPS + 1):
            await asyncio.sleep(0.05 / STEPS)
            yield Step(step, STEPS, 4.0 * (STEPS - step))
        yield Image(PNG, 64, 64, False, 2.0, model="tiny", compute_time=ComputeTime(0.002, 0.004, STEPS))

    generate, generate_stream = run, stream
    run_traced, stream_traced = run, stream


def bind(model):
    options = {"ray_actor_options": {"num_cpus": 1}, "max_ongoing_requests": 32, "health_check_period_s": 4}
    return serve.deployment(name=model.__name__.lower(), **options)(model).bind()


def app(args):
    options = {"ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 64, "health_check_period_s": 4}
    ingress = serve.deployment(name="ingress", **options)(serve.ingress()(Ingress))
    return ingress.bind(Settings.model_validate(args), whisper=bind(Whisper), diffusion=bind(Diffusion))
"""
console = Console(width=140)


@dataclass(frozen=True)
class Cost:
    """CPU ms of one request."""

    ms: Mapping[str, float]
    """By process."""
    idle_ms: float
    """The part that the processes would have used without requests, such as for Ray's health checks."""

    @property
    def total_ms(self) -> float:
        return sum(self.ms.values())

    @property
    def less_idle_ms(self) -> float:
        return self.total_ms - self.idle_ms


@dataclass(frozen=True)
class Side:
    service: Service
    commit: str
    idle_ms: float
    """CPU of a second without requests."""

    def cost(self, answer: str, requests: int, at_once: int) -> Cost:
        before, began_s = cpu_by_role(self.service), time.perf_counter()
        asyncio.run(send(self.service.url, answer, requests, at_once))
        took_s = time.perf_counter() - began_s
        return Cost(per_request_ms(before, cpu_by_role(self.service), requests), self.idle_ms * took_s / requests)


def module(checkout: Path) -> str:
    """Return the source of `known_cost` for a checkout, which raises where it imports another one."""
    (imports,) = (imports for name, imports in IMPORTS.items() if (checkout / name).exists())
    guard = f"\nimport graphs\n\nassert graphs.__file__.startswith({str(checkout)!r}), graphs.__file__\n"
    return "\n".join(line.strip() for line in imports.splitlines()) + guard + KNOWN_COST


def start(checkout: Path, folder: Path, args: Mapping[str, Any] | None = None) -> contextlib.AbstractContextManager[Service]:
    """Serve the checkout's ingress, with the settings `args`, over models of known cost; `folder`: for its files."""
    port = free_port()
    (folder / "known_cost.py").write_text(module(checkout))
    application = {"name": "sonograph", "route_prefix": "/", "import_path": "known_cost:app", "args": dict(args or {})}
    config = {"http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 180}, "applications": [application]}
    (folder / "serve.yaml").write_text(yaml.safe_dump(config))
    ours = {"PYTHONPATH": f"{checkout}:{folder}", "XDG_STATE_HOME": str(folder)}
    command = [str(BINARIES / "serve"), "run", "--address", "local", str(folder / "serve.yaml")]
    return running(command, variables(checkout) | ours, port, folder, "/readyz", checkout)


async def send(url: str, answer: str, requests: int, at_once: int) -> None:
    """Send so many requests by so many callers, each the next when its last has ended. Raises for any answer but 200."""
    numbers = iter(range(requests))
    async with client(url) as http:

        async def caller() -> None:
            for _ in numbers:
                (await post(http, answer)).raise_for_status()

        await asyncio.gather(*(caller() for _ in range(at_once)))


async def post(http: httpx.AsyncClient, answer: str) -> httpx.Response:
    return await http.post("/graph", files={"file": RECORDING}, data={"seed": "7"}, headers={"Accept": ANSWERS[answer]})


def cpu_by_role(service: Service) -> dict[str, float]:
    """Return the CPU seconds of the proxy and of each replica, with their child processes."""
    return {name: cpu_s([process]) for name, process in roles(service.process.pid).items()}


def per_request_ms(before: Mapping[str, float], after: Mapping[str, float], requests: int) -> dict[str, float]:
    """Return CPU ms of one request by process. Raises ValueError where the processes are not the same, as after a restart."""
    if before.keys() != after.keys() or any(after[name] < before[name] for name in before):
        raise ValueError(f"a process was replaced: {before} became {after}")
    return {name: (after[name] - before[name]) * 1000 / requests for name in before}


def mean(costs: Sequence[Cost]) -> Cost:
    return Cost({name: fmean(cost.ms[name] for cost in costs) for name in costs[0].ms}, fmean(cost.idle_ms for cost in costs))


def summary(old: Sequence[Cost], new: Sequence[Cost], goal: float = GOAL) -> dict[str, Any]:
    """Compare the costs of each pair: medians by process, and new / old with its 95% interval, also without what idling costs."""
    whole = compared([cost.total_ms for cost in old], [cost.total_ms for cost in new])
    less_idle = compared([cost.less_idle_ms for cost in old], [cost.less_idle_ms for cost in new])
    met = verdict(whole["low"], whole["high"], goal)
    return {"goal": goal, "verdict": met, "whole": whole, "less_idle": less_idle, "old_ms": medians(old), "new_ms": medians(new)}


def medians(costs: Sequence[Cost]) -> dict[str, float]:
    return {name: statistics.median(cost.ms[name] for cost in costs) for name in costs[0].ms}


def compared(old_ms: Sequence[float], new_ms: Sequence[float]) -> dict[str, Any]:
    ratios = [ours / theirs for theirs, ours in zip(old_ms, new_ms, strict=True)]
    low, high = interval(ratios)
    found = {"old_ms": statistics.median(old_ms), "new_ms": statistics.median(new_ms), "ratio": statistics.median(ratios)}
    return {**found, "low": low, "high": high, "ratios": ratios}


def verdict(low: float, high: float, goal: float) -> str:
    """Return the goal's: it is met by a whole interval, and missed by one that begins above it."""
    return "met" if high <= goal else "not met" if low > goal else "not decided"


def comparable(answer: httpx.Response) -> Any:
    """Return what two answers to the same request have in common."""
    if answer.headers["content-type"].startswith("application/json"):
        return without(answer.json())
    if answer.headers["content-type"].startswith("text/event-stream"):
        return [(event.event, without(event.json())) for event in httpx_sse.EventSource(answer).iter_sse() if event.data]
    return answer.content


def without(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in CHANGING}


async def warm_up(service: Service, answers: Sequence[str]) -> list[Any]:
    """Send requests of every measured kind; return an answer of each kind there is."""
    for answer in answers:
        await send(service.url, answer, WARM_UP, max(AT_ONCE))
    async with client(service.url) as http:
        return [comparable(await post(http, answer)) for answer in ANSWERS]


def compare(
    sides: Mapping[str, Side], answer: str, at_once: int, requests: int, pairs: int, goal: float = GOAL
) -> dict[str, Any]:
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in track(range(pairs), f"{answer}, {at_once} at once", console=console):
        turns: dict[str, list[Cost]] = {name: [] for name in sides}
        for turn in range(TURNS):
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                turns[name].append(sides[name].cost(answer, max(at_once, requests // TURNS), at_once))
        for name in sides:
            costs[name].append(mean(turns[name]))
    found = summary(costs["old"], costs["new"], goal)
    console.print(table(f"{answer}, {at_once} at once, {requests} requests a side, {pairs} pairs", found))
    described = {name: {"commit": side.commit, "idle_ms_per_s": side.idle_ms} for name, side in sides.items()}
    return {"requests": requests, "pairs": pairs, "sides": described, **found}


def table(title: str, found: Mapping[str, Any]) -> Table:
    shown = Table("CPU-ms a request, medians", "old", "new", "new / old", "95% interval", f"at most {found['goal']}", title=title)
    for name in sorted(found["old_ms"]):
        old, new = found["old_ms"][name], found["new_ms"][name]
        shown.add_row(name, f"{old:.2f}", f"{new:.2f}", f"{new / old:.3f}" if old else "-")
    for name, key, met in (("all", "whole", found["verdict"]), ("the same, less idle CPU", "less_idle", "")):
        one = found[key]
        ratio = f"{one['ratio']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}"
        shown.add_row(name, f"{one['old_ms']:.2f}", f"{one['new_ms']:.2f}", *ratio, met)
    return shown


def side(name: str, service: Service, of_commit: str) -> Side:
    """Measure what the service uses without requests, and print it."""
    idle_ms = Idle(list(roles(service.process.pid).values()), IDLE_S).cpu_per_s * 1000
    console.print(f"{name}: commit {of_commit}, {idle_ms:.0f} CPU-ms a second without requests")
    return Side(service, of_commit, idle_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout of the old commit")
    parser.add_argument("new", type=Path, help="a checkout of the new commit")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--requests", type=int, default=40, help="to each side in a pair")
    parser.add_argument("--answers", nargs="*", choices=ANSWERS, default=list(ANSWERS))
    parser.add_argument("--at-once", nargs="*", type=int, default=list(AT_ONCE))
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        services = {}
        for name in ("old", "new"):
            with console.status(f"Starting {name} ..."):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                services[name] = stack.enter_context(start(getattr(arguments, name).resolve(), folder))
        with console.status("Warming up ..."):
            old, new = (asyncio.run(warm_up(service, arguments.answers)) for service in services.values())
        console.print(f"same answers: {'yes' if old == new else 'NO'}")
        sides = {name: side(name, service, commit(getattr(arguments, name))) for name, service in services.items()}
        parts = {
            f"{answer}, {at_once} at once": partial(compare, sides, answer, at_once, arguments.requests)
            for at_once in arguments.at_once
            for answer in arguments.answers
        }
        record(RESULTS / "commits.json", parts, parts, arguments.pairs, console)


if __name__ == "__main__":
    main()
