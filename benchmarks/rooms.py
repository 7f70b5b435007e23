"""What Whisper's room costs beside the blog article's: `python -m benchmarks.rooms`.

16 clients that never pause, spoken sentences of 3 to 12 s, in turns by the article's Whisper deployment (peers/article), the room as it
is (exact) and the room tuned (see benchmarks.graph). Each is a Triton server in this process with the model in its stub, without Ray;
one of them is asked at a time, the order reversed every other round. CPU is that of this process and the stubs, decoding of the
recordings and the clients too.
"""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import chart
from benchmarks.graph import CLIENTS, REQUESTS, TUNED
from benchmarks.measure import cpu_s, interval, record, tree
from benchmarks.peers.article.graph import Whisper as Article
from benchmarks.voices import recordings, wrong
from deployments.time_left import TimeLeft
from deployments.whisper import TranscribeOptions, Whisper, WhisperSettings
from graphs.audio.decode import decode
from testing.media import wav

RESULTS = Path(__file__).with_name("results")
GOALS = {"exact": 1.3, "tuned": 6.0}
"""Times less CPU than the article's."""
POINTS = 0.5
Hear = Callable[[bytes], Awaitable[str]]
console = Console(width=140)


def hearing(room: Whisper) -> Hear:
    async def hear(recording: bytes) -> str:
        audio = await asyncio.to_thread(decode, recording, 60)
        return (await room.transcribe(audio, TranscribeOptions(), TimeLeft(300))).text

    return hear


async def ask(hear: Hear, spoken: list[bytes], requests: int) -> tuple[float, float, list[str]]:
    """CPU seconds and wall seconds of one request, and the texts."""
    numbers, texts = iter(range(requests)), [""] * requests

    async def client() -> None:
        for number in numbers:
            texts[number] = await hear(spoken[number % len(spoken)])

    processes = tree(os.getpid())
    began_cpu_s, began_s = cpu_s(processes), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return (cpu_s(processes) - began_cpu_s) / requests, (time.perf_counter() - began_s) / requests, texts


async def _rooms(pairs: int) -> dict[str, Any]:
    audios, said = zip(*recordings(), strict=True)
    spoken = [wav(audio.tobytes()) for audio in audios]
    rooms = {"exact": Whisper(WhisperSettings()), "tuned": Whisper(WhisperSettings(**TUNED["whisper"]))}
    article = Article()  # after ours, which put this environment's Python first on PATH
    sides: dict[str, Hear] = {"article": lambda recording: asyncio.to_thread(article.detect, recording)}
    sides |= {name: hearing(room) for name, room in rooms.items()}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    texts: dict[str, list[str]] = {}
    for hear in sides.values():
        await ask(hear, spoken, CLIENTS)
    for pair in track(range(pairs), "Rounds", console=console):
        for name in list(sides)[:: 1 if pair % 2 else -1]:
            *costs, texts[name] = await ask(sides[name], spoken, REQUESTS)
            took[name].append((costs[0], costs[1]))
    for room in rooms.values():
        await room.close()
    article._triton.stop()
    return _found(took, {name: heard[: len(said)] for name, heard in texts.items()}, said)


def _found(took: dict[str, list[tuple[float, float]]], texts: dict[str, list[str]], said: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    table = Table(
        "", "CPU s a request", "times less (95% interval)", "wall: times less", "goal, CPU", "word error rate", "same texts"
    )
    for name, costs in took.items():
        cpu, wall = ([theirs[unit] / ours[unit] for theirs, ours in zip(took["article"], costs, strict=True)] for unit in (0, 1))
        low, high = interval(cpu)
        rate, same = wrong(texts[name], said), sum(a == b for a, b in zip(texts["article"], texts[name], strict=True))
        found[name] = {
            "cpu_s": [cost for cost, _ in costs],
            "wall_s": [cost for _, cost in costs],
            "ratio": statistics.median(cpu),
            "interval": [low, high],
            "wall_ratio": statistics.median(wall),
            "wall_interval": list(interval(wall)),
            "word_error_rate": rate,
            "same_texts": same,
        }
        goal = f"{GOALS[name]:g}: {'met' if low >= GOALS[name] else 'not met'}" if name in GOALS else ""
        table.add_row(
            name,
            f"{statistics.median(found[name]['cpu_s']):.3f}",
            f"{found[name]['ratio']:.2f} ({low:.2f} to {high:.2f})",
            f"{found[name]['wall_ratio']:.2f}",
            goal,
            f"{rate:.1%} (at most {POINTS:+} points)",
            f"{same} of {len(said)}",
        )
    console.print(f"{CLIENTS} clients, {REQUESTS} requests a round, {len(took['article'])} rounds", table)
    return found


def picture(found: dict[str, Any]) -> None:
    bars = [
        chart.Bar(name, statistics.median(found[name]["cpu_s"]), of) for of, name in ((1, "article"), (0, "exact"), (0, "tuned"))
    ]
    panel = chart.Bars(f"Whisper's room: CPU seconds a request, {CLIENTS} clients", bars)
    chart.draw(RESULTS / "rooms.png", ["this service", "the article's shape"], [panel])


def rooms(pairs: int) -> dict[str, Any]:
    found = asyncio.run(_rooms(pairs))
    picture(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    record(RESULTS / "rooms.json", {"rooms": rooms}, ["rooms"], parser.parse_args().pairs, console)


if __name__ == "__main__":
    main()
