"""What is held, and what is kept: `python -m benchmarks.memory`.

It starts a service of its own as `make serve` does. Clients that never pause send it the sample recordings, one denoising step each: each
process's memory after 200 of them against after 1,200. Then as many at once as the service takes, and 300 clients that leave, twice:
eight at a time, half of them with event streams, each gone within its first two seconds, with the default steps.

Beside them each engine alone in a process of its own (*bare*), after full batches too. Memory is PSS: what processes share, such
as torch's own code, counts by its share.
"""

import argparse
import asyncio
import contextlib
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from benchmarks.load import client
from benchmarks.measure import circumstances, pss_mib, recordings, roles
from benchmarks.services import sonograph
from deployments.diffusion import DiffusionSettings
from deployments.whisper import WhisperSettings
from graphs.audio.decode import decode
from graphs.http.settings import HttpSettings

AT_ONCE = 8
LONGEST_STAY_S = 2.0
OVER_BARE_MIB = 200
GROWTH = 0.01
"""Of the whole, in 1,000 requests."""


async def leave(url: str, recordings: Sequence[bytes], count: int) -> None:
    """So many clients that go at random moments."""
    lot, places = random.Random(0), asyncio.Semaphore(AT_ONCE)

    async def one(recording: bytes, stay_s: float, accept: str) -> None:
        async with places:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(stay_s):
                    await http.post("/graph", files={"file": recording}, headers={"Accept": accept})

    async with client(url) as http:
        stays = [
            one(recordings[n % len(recordings)], lot.uniform(0, LONGEST_STAY_S), lot.choice(["*/*", "text/event-stream"]))
            for n in range(count)
        ]
        for stay in track(asyncio.as_completed(stays), "Clients that leave", total=count, console=Console()):
            await stay


def settled(http: httpx.Client) -> None:
    """Returns when nothing is in flight."""
    while http.get("/healthz").json()["requests"]:
        time.sleep(0.2)


async def ask(url: str, recordings: Sequence[bytes], numbers: range, clients: int, progress: Progress) -> None:
    """By so many clients that wait for their answers."""
    left, bar = iter(numbers), progress.add_task("Requests", total=len(numbers))

    async def caller() -> None:
        for number in left:
            answer = await http.post("/graph", files={"file": recordings[number % 8]}, data={"steps": "1"})
            answer.raise_for_status()
            progress.advance(bar)

    async with client(url) as http:
        await asyncio.gather(*(caller() for _ in range(clients)))


def bare(name: str, recordings: Sequence[bytes], connection: Connection) -> None:
    """An engine alone, after full batches: sends that it is there, and waits."""
    if name == "whisper":
        from deployments.whisper.engine import WhisperEngine

        whisper = WhisperEngine("tiny.en", WhisperSettings().weights)
        for _ in range(3):
            voices = [whisper.voice(decode(recording, 60), "en") for recording in recordings]
            while still := [voice for voice in voices if not voice.done]:
                whisper.listen(still)
    else:
        from deployments.diffusion.engine import DiffusionEngine
        from deployments.diffusion.types import Prompt

        diffusion = DiffusionEngine(DiffusionSettings().model)
        for _ in range(3):
            rows = [diffusion.begin(Prompt("a red apple", seed=seed)) for seed in range(len(recordings))]
            while rows[0].done < rows[0].of:
                diffusion.step(rows)
            diffusion.decode(rows)
    connection.send(os.getpid())
    connection.recv()


def bare_mib(name: str, recordings: Sequence[bytes]) -> float:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=bare, args=(name, recordings, theirs), daemon=True)
    process.start()
    try:
        return pss_mib(ours.recv())
    finally:
        ours.send(None)
        process.join(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--last", type=int, default=1200)
    parser.add_argument("--crowd", type=int, default=HttpSettings().max_requests)
    parser.add_argument("--leave", type=int, default=300)
    arguments = parser.parse_args()
    console, spoken = Console(width=140), recordings(AT_ONCE)
    seen: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, sonograph(Path(folder)) as service:

        def look(when: str) -> None:
            settled(service.client)
            seen[when] = {name: pss_mib(process.pid) for name, process in roles(service.process.pid).items()}

        def some(numbers: range, clients: int, when: str) -> None:
            with Progress(console=console) as progress:
                asyncio.run(ask(service.url, spoken, numbers, clients, progress))
            look(when)

        some(range(arguments.first), arguments.clients, f"after {arguments.first}")
        some(range(arguments.first, arguments.last), arguments.clients, f"after {arguments.last:,}")
        some(range(arguments.crowd), arguments.crowd, f"{arguments.crowd} at once")
        for again in ("", " again"):
            asyncio.run(leave(service.url, spoken, arguments.leave))
            look(f"{arguments.leave} left{again}")
        alone = {name: bare_mib(name, spoken) for name in ("whisper", "diffusion")}
    table = Table("MiB (PSS)", *seen)
    for name in sorted({name for sizes in seen.values() for name in sizes}):
        table.add_row(name, *(f"{sizes.get(name, math.nan):.1f}" for sizes in seen.values()))
    whole = [sum(sizes.values()) for sizes in seen.values()]
    table.add_row("all of them", *(f"{mib:.1f}" for mib in whole))
    console.print(table)
    growth = (whole[1] / whole[0] - 1) / (arguments.last - arguments.first) * 1000
    console.print(f"growth in 1,000 requests: {growth:+.2%}; at most {GROWTH:.0%} is the goal")
    for name, mib in alone.items():
        held = max(sizes[f"replica of {name}"] + sizes[f"stub of {name}"] for sizes in seen.values())
        console.print(
            f"{name}: replica and stub {held:.1f} MiB at most, the bare engine {mib:.1f}: {held - mib:+.1f}; "
            f"at most +{OVER_BARE_MIB} is the goal"
        )
    console.print(circumstances())


if __name__ == "__main__":
    main()
