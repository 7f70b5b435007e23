"""Time to recover from the death of a process: `python -m benchmarks.recovery`.

Under light load it kills (SIGKILL) one process of a service of its own at a time: a model's stub, a replica, the ingress. The load
asks for event streams, in which the event `retry` reports a second try.
"""

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from httpx_sse import EventSource
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.load import CLIENT_S, client
from benchmarks.measure import circumstances, recordings
from benchmarks.services import sonograph
from testing.service import Service

VICTIMS: dict[str, Callable[[Service], psutil.Process]] = {
    "whisper's stub": lambda service: service.stub("whisper"),
    "diffusion's stub": lambda service: service.stub("diffusion"),
    "diffusion's replica": lambda service: service.replica("diffusion"),
    "ingress replica": lambda service: service.replica("ingress"),
}
CALM_S = 5.0
"""Time of light load before the kill, and after the recovery."""
LIMIT_S = 180.0
"""Longest wait for the recovery."""
PROBE_S = 0.1
EVENTS = {"Accept": "text/event-stream"}
STEPS = "4"
"""Denoising steps of each request, so that one a second is a light load."""


@dataclass
class SentRequest:
    """One request. Times are of the monotonic clock."""

    sent_s: float
    ended_s: float = 0.0
    outcome: str = "no answer"
    """`200`, the status of the problem that came, `cut` for a stream without an end, or `no answer`."""
    retried_s: float | None = None


@dataclass(frozen=True)
class Recovery:
    """Seconds from the kill; None where it did not happen."""

    noticed_s: float | None
    """The first request that did not end in 200, or was tried again."""
    unready_s: float | None
    """The first answer of /readyz that was not ready, or that did not come."""
    ready_s: float | None
    """/readyz is ready again, for good."""
    first_200_s: float | None
    """The first answer 200 to a request that was sent after the kill."""
    longest_s: float
    """Duration of the longest request."""
    outcomes: dict[str, int]
    """Number of requests that ended after the kill, by outcome: `200`, `200 at the second try`, and the others."""


def summary(killed_s: float, sent: Sequence[SentRequest], probes: Sequence[tuple[float, bool]]) -> Recovery:
    """Summarize one kill. `probes`: the time of each answer of /readyz, and whether it was ready."""
    after = [one for one in sent if one.ended_s > killed_s]
    signs = [one.retried_s for one in after if one.retried_s] + [one.ended_s for one in after if one.outcome != "200"]
    unready = [at_s for at_s, ready in probes if at_s > killed_s and not ready]
    again = [at_s for at_s, ready in probes if unready and at_s > unready[-1] and ready]
    good = [one.ended_s for one in after if one.sent_s > killed_s and one.outcome == "200"]
    outcomes: dict[str, int] = {}
    for one in after:
        name = f"{one.outcome} at the second try" if one.retried_s else one.outcome
        outcomes[name] = outcomes.get(name, 0) + 1

    def since(times: Sequence[float]) -> float | None:
        return min(times) - killed_s if times else None

    longest_s = max((one.ended_s - one.sent_s for one in after), default=0.0)
    return Recovery(since(signs), since(unready), since(again), since(good), longest_s, outcomes)


async def draw(http: httpx.AsyncClient, recording: bytes, sent: list[SentRequest]) -> None:
    """Send one request, and append its outcome to `sent`."""
    one = SentRequest(time.monotonic())
    sent.append(one)
    files, fields = {"file": recording}, {"steps": STEPS}
    try:
        async with asyncio.timeout(CLIENT_S), http.stream("POST", "/graph", files=files, data=fields, headers=EVENTS) as answer:
            if answer.status_code != 200:
                one.outcome = str(answer.status_code)
                return
            one.outcome = "cut"
            async for event in EventSource(answer).aiter_sse():
                if event.event == "retry":
                    one.retried_s = time.monotonic()
                elif event.event == "error":
                    one.outcome = str(json.loads(event.data)["problem"]["status"])
                elif event.event == "done":
                    one.outcome = "200"
    except (TimeoutError, httpx.TransportError):
        pass
    finally:
        one.ended_s = time.monotonic()


async def probe(http: httpx.AsyncClient, probes: list[tuple[float, bool]]) -> None:
    while True:
        try:
            ready = (await http.get("/readyz", timeout=5)).status_code == 200
        except httpx.TransportError:
            ready = False
        probes.append((time.monotonic(), ready))
        await asyncio.sleep(PROBE_S)


async def kill(service: Service, find: Callable[[Service], psutil.Process], spoken: Sequence[bytes], per_s: float) -> Recovery:
    sent: list[SentRequest] = []
    probes: list[tuple[float, bool]] = []
    async with client(service.url) as http, asyncio.TaskGroup() as tasks:

        async def load() -> None:
            number = 0
            while True:
                tasks.create_task(draw(http, spoken[number % len(spoken)], sent))
                number += 1
                await asyncio.sleep(1 / per_s)

        background = [tasks.create_task(load()), tasks.create_task(probe(http, probes))]
        await asyncio.sleep(CALM_S)
        victim = find(service)
        victim.kill()
        killed_s = time.monotonic()
        while time.monotonic() - killed_s < LIMIT_S:
            await asyncio.sleep(0.5)
            # Replaced, ready, and the last three requests ended in 200.
            last = [one.outcome for one in sent if one.ended_s][-3:]
            if await asyncio.to_thread(_replaced, service, find, victim) and probes[-1][1] and last == ["200"] * 3:
                break
        await asyncio.sleep(CALM_S)
        for task in background:
            task.cancel()
    return summary(killed_s, sent, probes)


def _replaced(service: Service, find: Callable[[Service], psutil.Process], victim: psutil.Process) -> bool:
    with contextlib.suppress(ValueError, psutil.Error):  # none of them, or two, while one is being replaced
        return find(service) != victim
    return False


def table(found: dict[str, Recovery]) -> Table:
    shown = Table("killed", title="Seconds from the kill", title_justify="left")
    for heading in ("noticed by a request", "not ready", "ready again", "first 200", "longest request"):
        shown.add_column(heading, justify="right")
    shown.add_column("requests that ended after the kill")
    for name, one in found.items():
        times = (one.noticed_s, one.unready_s, one.ready_s, one.first_200_s, one.longest_s)
        ends = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(one.outcomes.items()))
        shown.add_row(name, *("-" if seconds is None else f"{seconds:.1f}" for seconds in times), ends)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second")
    arguments = parser.parse_args()
    console = Console(width=140)
    spoken = recordings(4)
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        with console.status("Starting the service ..."):
            service = stack.enter_context(sonograph(Path(folder)))
            service.draw(spoken[0])
        for name, find in track(VICTIMS.items(), "Killing one at a time", console=console):
            found[name] = asyncio.run(kill(service, find, spoken, arguments.rate))
    console.print(table(found))
    console.print(circumstances(), soft_wrap=True)


if __name__ == "__main__":
    main()
