"""What is kept: `python -m benchmarks.memory` compares each process's memory after 50 and after 500 requests, and after 300 that were left.

It starts a service of its own as `make serve` does, and sends it the sample recordings one after the other, one denoising step each. Then
as many at once as the service takes, so that batches are full, twice; then clients that leave, twice 300: eight at a time, half of
them with event streams, each gone within its first two seconds, with the default steps.
"""

import argparse
import asyncio
import contextlib
import math
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.load import client
from benchmarks.measure import circumstances, recordings, rss_mib
from benchmarks.services import sonograph
from graphs.http.settings import HttpSettings

AT_ONCE = 8
LONGEST_STAY_S = 2.0


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


async def crowd(url: str, recordings: Sequence[bytes], count: int) -> None:
    """So many clients at once, that wait for their answers."""
    async with client(url) as http:
        for answer in await asyncio.gather(*(http.post("/graph", files={"file": recordings[n % 8]}) for n in range(count))):
            answer.raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=50)
    parser.add_argument("--last", type=int, default=500)
    parser.add_argument("--crowd", type=int, default=HttpSettings().max_requests)
    parser.add_argument("--leave", type=int, default=300)
    arguments = parser.parse_args()
    console, spoken = Console(width=140), recordings(8)
    seen: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, sonograph(Path(folder)) as service:

        def look(when: str) -> None:
            settled(service.client)
            seen[when] = rss_mib(service.process.pid)

        for number in track(range(arguments.last), "Requests", console=console):
            service.client.post("/graph", files={"file": spoken[number % 8]}, data={"steps": "1"}).raise_for_status()
            if number + 1 in (arguments.first, arguments.last):
                look(f"after {number + 1}")
        for again in ("", " again"):
            asyncio.run(crowd(service.url, spoken, arguments.crowd))
            look(f"{arguments.crowd} at once{again}")
        for again in ("", " again"):
            asyncio.run(leave(service.url, spoken, arguments.leave))
            look(f"{arguments.leave} left{again}")
    table = Table("MiB", *seen)
    for name in sorted({name for sizes in seen.values() for name in sizes}):
        table.add_row(name, *(f"{sizes.get(name, math.nan):.1f}" for sizes in seen.values()))
    console.print("Resident memory", table)
    console.print(circumstances())


if __name__ == "__main__":
    main()
