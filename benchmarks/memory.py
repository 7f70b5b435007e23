"""What is kept: `python -m benchmarks.memory` compares each process's memory after 50 and after 500 requests, and after 300 that were left.

It starts a service of its own as `make serve` does, and sends it the sample recordings, one denoising step each. Those that are left have
twelve, eight at a time; half of them are event streams, and each client goes within its first two seconds.
"""

import argparse
import asyncio
import contextlib
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=50)
    parser.add_argument("--last", type=int, default=500)
    parser.add_argument("--leave", type=int, default=300)
    arguments = parser.parse_args()
    console, spoken = Console(), recordings(8)
    rss: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, sonograph(Path(folder)) as service:
        for number in track(range(arguments.last), "Requests", console=console):
            service.client.post("/graph", files={"file": spoken[number % 8]}, data={"steps": "1"}).raise_for_status()
            if number + 1 in (arguments.first, arguments.last):
                rss.append(rss_mib(service.process.pid))
        asyncio.run(leave(service.url, spoken, arguments.leave))
        settled(service.client)
        rss.append(rss_mib(service.process.pid))
    first, last, left = rss
    table = Table("process", f"after {arguments.first}", f"after {arguments.last}", "ratio", f"{arguments.leave} left", "ratio")
    for name in last:
        sizes = [f"{one.get(name, float('nan')):.1f}" for one in (first, last, left)]
        ratios = [
            f"{later.get(name, float('nan')) / one.get(name, float('nan')):.3f}" for one, later in ((first, last), (last, left))
        ]
        table.add_row(name, sizes[0], sizes[1], ratios[0], sizes[2], ratios[1])
    console.print("Resident memory, MiB", table)
    console.print(circumstances())


if __name__ == "__main__":
    main()
