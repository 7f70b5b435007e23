"""CPU cost of the Whisper deployment beside the blog article's: `python -m benchmarks.models`.

16 clients send spoken sentences of 3 to 12 s without a pause, in turns to the article's Whisper deployment (peers/article), to this
one with its default settings (exact) and to this one tuned (see benchmarks.graph). Each is a Triton server in this process with the
model in its stub, without Ray; one side works at a time, and the order is reversed every other round. CPU includes this process (clients,
decoding of the recordings) and the stubs.
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
from benchmarks.transcription import recordings, word_error_rate
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.time_left import TimeLeft
from deployments.whisper.deployment import Whisper
from deployments.whisper.settings import WhisperSettings
from graphs.audio.decode import decode
from testing.media import wav

RESULTS = Path(__file__).with_name("results")
GOALS = {"exact": 1.3, "tuned": 6.0}
"""How many times less CPU than the article's."""
POINTS = 0.5
"""The word error rate may be worse by so many percentage points."""
Transcribe = Callable[[bytes], Awaitable[str]]
console = Console(width=140)


def transcriber(whisper: Whisper) -> Transcribe:
    async def transcribe(recording: bytes) -> str:
        audio = await asyncio.to_thread(decode, recording, 60)
        return (await whisper.run(TranscribeRequest(audio), TimeLeft(300))).text

    return transcribe


async def measure(transcribe: Transcribe, spoken: list[bytes], requests: int) -> tuple[float, float, list[str]]:
    """Return CPU seconds and wall seconds of one request, and the texts."""
    numbers, texts = iter(range(requests)), [""] * requests

    async def client() -> None:
        for number in numbers:
            texts[number] = await transcribe(spoken[number % len(spoken)])

    processes = tree(os.getpid())
    began_cpu_s, began_s = cpu_s(processes), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return (cpu_s(processes) - began_cpu_s) / requests, (time.perf_counter() - began_s) / requests, texts


async def _compare(pairs: int) -> dict[str, Any]:
    audios, references = zip(*recordings(), strict=True)
    spoken = [wav(audio.tobytes()) for audio in audios]
    whispers = {"exact": Whisper(WhisperSettings()), "tuned": Whisper(WhisperSettings(**TUNED["whisper"]))}
    article = Article()  # after ours, which put this environment's Python first on PATH
    sides: dict[str, Transcribe] = {"article": lambda recording: asyncio.to_thread(article.detect, recording)}
    sides |= {name: transcriber(whisper) for name, whisper in whispers.items()}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    texts: dict[str, list[str]] = {}
    for transcribe in sides.values():
        await measure(transcribe, spoken, CLIENTS)
    for pair in track(range(pairs), "Rounds", console=console):
        for name in list(sides)[:: 1 if pair % 2 else -1]:
            *costs, texts[name] = await measure(sides[name], spoken, REQUESTS)
            took[name].append((costs[0], costs[1]))
    for whisper in whispers.values():
        await whisper.close()
    article._triton.stop()
    return _report(took, {name: found[: len(references)] for name, found in texts.items()}, references)


def _report(took: dict[str, list[tuple[float, float]]], texts: dict[str, list[str]], references: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    table = Table(
        "", "CPU s a request", "times less (95% interval)", "wall: times less", "goal, CPU", "word error rate", "same texts"
    )
    for name, costs in took.items():
        cpu, wall = ([theirs[unit] / ours[unit] for theirs, ours in zip(took["article"], costs, strict=True)] for unit in (0, 1))
        low, high = interval(cpu)
        rate = word_error_rate(texts[name], references)
        same = sum(a == b for a, b in zip(texts["article"], texts[name], strict=True))
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
            f"{same} of {len(references)}",
        )
    console.print(f"{CLIENTS} clients, {REQUESTS} requests a round, {len(took['article'])} rounds", table)
    return found


def draw_chart(found: dict[str, Any]) -> None:
    bars = [
        chart.Bar(name, statistics.median(found[name]["cpu_s"]), of) for of, name in ((1, "article"), (0, "exact"), (0, "tuned"))
    ]
    panel = chart.Bars(f"The Whisper deployment: CPU seconds a request, {CLIENTS} clients", bars)
    chart.draw(RESULTS / "models.png", ["this service", "the article's architecture"], [panel])


def models(pairs: int) -> dict[str, Any]:
    found = asyncio.run(_compare(pairs))
    draw_chart(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    record(RESULTS / "models.json", {"models": models}, ["models"], parser.parse_args().pairs, console)


if __name__ == "__main__":
    main()
