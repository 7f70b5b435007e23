"""Memory of each process, and its growth: `python -m benchmarks.memory`.

It starts a service of its own as `make serve` does. Clients that never pause send it the sample recordings, with one denoising step each:
each process's memory after 200 requests is compared with that after 1,200. Then it sends as many requests at once as the service accepts,
and twice 300 that disconnect: eight at a time, half of them event streams, each within its first two seconds, with the default steps.

For comparison, each engine runs alone in a process of its own (*bare*), after full batches too. Memory is PSS: pages that processes
share, such as torch's own code, count by the process's share.
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
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.roles.text_to_image import GenerateRequest
from graphs.audio.decode import decode
from graphs.http.settings import HttpSettings

CONCURRENCY = 8
LONGEST_CONNECTION_S = 2.0
OVER_BARE_MIB = 200
GROWTH = 0.01
"""Largest growth of all processes together in 1,000 requests."""


async def disconnect(url: str, recordings: Sequence[bytes], count: int) -> None:
    """Send `count` requests whose clients disconnect at random moments."""
    rng, semaphore = random.Random(0), asyncio.Semaphore(CONCURRENCY)

    async def one(recording: bytes, connected_s: float, accept: str) -> None:
        async with semaphore:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(connected_s):
                    await http.post("/graph", files={"file": recording}, headers={"Accept": accept})

    async with client(url) as http:
        requests = [
            one(recordings[n % len(recordings)], rng.uniform(0, LONGEST_CONNECTION_S), rng.choice(["*/*", "text/event-stream"]))
            for n in range(count)
        ]
        for request in track(asyncio.as_completed(requests), "Clients that disconnect", total=count, console=Console()):
            await request


def settled(http: httpx.Client) -> None:
    """Return when no request is in flight."""
    while http.get("/healthz").json()["requests"]:
        time.sleep(0.2)


async def send(url: str, recordings: Sequence[bytes], numbers: range, clients: int, progress: Progress) -> None:
    """Send the requests by so many clients, each of which waits for its response."""
    remaining, bar = iter(numbers), progress.add_task("Requests", total=len(numbers))

    async def caller() -> None:
        for number in remaining:
            response = await http.post("/graph", files={"file": recordings[number % 8]}, data={"steps": "1"})
            response.raise_for_status()
            progress.advance(bar)

    async with client(url) as http:
        await asyncio.gather(*(caller() for _ in range(clients)))


def bare(name: str, recordings: Sequence[bytes], connection: Connection) -> None:
    """Run an engine alone through full batches, send the process's id, and wait."""
    if name == "whisper":
        from deployments.whisper.engine import WhisperEngine
        from deployments.whisper.sequence import unfinished
        from deployments.whisper.settings import WhisperSettings

        whisper = WhisperEngine(WhisperSettings().engine_config())
        for _ in range(3):
            groups = [whisper.prepare(TranscribeRequest(decode(recording, 60), "en")) for recording in recordings]
            while running := unfinished(groups):
                whisper.run_step([sequence for group in running for sequence in group.sequences])
    else:
        from deployments.diffusion.engine import DiffusionEngine
        from deployments.diffusion.settings import DiffusionSettings
        from deployments.diffusion.types import EngineConfig

        settings = DiffusionSettings()
        diffusion = DiffusionEngine(EngineConfig(settings.model))
        for _ in range(3):
            requests = [GenerateRequest("a red apple", seed=seed) for seed in range(len(recordings))]
            states = [diffusion.begin(settings.with_defaults(request)) for request in requests]
            while states[0].step < states[0].steps:
                diffusion.step(states)
            diffusion.decode(states)
    connection.send(os.getpid())
    connection.recv()


def bare_mib(name: str, recordings: Sequence[bytes]) -> float:
    spawn = multiprocessing.get_context("spawn")
    parent, child = spawn.Pipe()
    process = spawn.Process(target=bare, args=(name, recordings, child), daemon=True)
    process.start()
    try:
        return pss_mib(parent.recv())
    finally:
        parent.send(None)
        process.join(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--last", type=int, default=1200)
    parser.add_argument("--at-once", type=int, default=HttpSettings().max_concurrent_requests)
    parser.add_argument("--disconnect", type=int, default=300)
    arguments = parser.parse_args()
    console, samples = Console(width=140), recordings(CONCURRENCY)
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, sonograph(Path(folder)) as service:

        def measure(when: str) -> None:
            settled(service.client)
            measured[when] = {name: pss_mib(process.pid) for name, process in roles(service.process.pid).items()}

        def send_requests(numbers: range, clients: int, when: str) -> None:
            with Progress(console=console) as progress:
                asyncio.run(send(service.url, samples, numbers, clients, progress))
            measure(when)

        send_requests(range(arguments.first), arguments.clients, f"after {arguments.first}")
        send_requests(range(arguments.first, arguments.last), arguments.clients, f"after {arguments.last:,}")
        send_requests(range(arguments.at_once), arguments.at_once, f"{arguments.at_once} at once")
        for again in ("", " again"):
            asyncio.run(disconnect(service.url, samples, arguments.disconnect))
            measure(f"{arguments.disconnect} disconnected{again}")
        alone = {name: bare_mib(name, samples) for name in ("whisper", "diffusion")}
    table = Table("MiB (PSS)", *measured)
    for name in sorted({name for sizes in measured.values() for name in sizes}):
        table.add_row(name, *(f"{sizes.get(name, math.nan):.1f}" for sizes in measured.values()))
    whole = [sum(sizes.values()) for sizes in measured.values()]
    table.add_row("all of them", *(f"{mib:.1f}" for mib in whole))
    console.print(table)
    growth = (whole[1] / whole[0] - 1) / (arguments.last - arguments.first) * 1000
    console.print(f"growth in 1,000 requests: {growth:+.2%}; at most {GROWTH:.0%} is the goal")
    for name, mib in alone.items():
        held = max(sizes[f"replica of {name}"] + sizes[f"stub of {name}"] for sizes in measured.values())
        console.print(
            f"{name}: replica and stub {held:.1f} MiB at most, the bare engine {mib:.1f}: {held - mib:+.1f}; "
            f"at most +{OVER_BARE_MIB} is the goal"
        )
    console.print(circumstances())


if __name__ == "__main__":
    main()
