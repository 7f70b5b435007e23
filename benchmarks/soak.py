"""Ten thousand mixed requests and two hundred deaths: `python -m benchmarks.soak`.

The real proxy and ingress, with their decoding processes, serve over models of known cost (benchmarks.commits). Eight callers send
good, bad, cancelled and hostile requests, by a seed; each answer is compared with what it should be. Between them the models' replicas
are killed, two at a time. Memory, files and threads of every process, and what lies in /tmp and /dev/shm, are sampled while all models
serve, after each two deaths: an early window is compared with the last one.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import chart
from benchmarks.commits import start
from benchmarks.load import client
from benchmarks.measure import DECODING, circumstances, pss_mib, recordings, tree
from graphs.audio.errors import REFUSALS
from testing import examples, hostile, media
from testing.service import ROOT, Service

RESULTS = Path(__file__).with_name("results")
SETTINGS = {"audio": {"decode_cpu_s": 0.3, "decode_cpu_s_per_s": 0.05}}
"""With less CPU for a hostile recording ten thousand requests take less time."""
CALLERS = 8
MODELS = ("whisper", "diffusion")
EARLY, LATE = (0.15, 0.35), (0.8, 1.0)
"""The windows that are compared, as parts of the run."""
MOST_GROWTH_MIB = 10.0
MOST_GROWTH = 0.05
MOST_FILES = 8
ANSWER_S = 90.0
"""Without an answer for so long a request is lost."""
SPOKEN = recordings(4)
MIX = {"good": 0.55, "bad": 0.2, "cancelled": 0.15, "hostile": 0.1}
GOOD: tuple[examples.Request, ...] = tuple(request for name, request in examples.ANSWERED.items() if "1}" not in name)
HOSTILE: dict[str, bytes] = {}
"""Made once."""
SMALL: dict[str, Callable[[], bytes]] = {
    **{
        name: hostile.KINDS[name]
        for name in ("large indexes", "bounded indexes", "FLAC comments", "laced at 384 kHz", "long silence")
    },
    **{name: hostile.KINDS[name] for name in ("long blocks", "2 GB comment", "flipped bits", "noise")},
    "damaged packets": lambda: hostile.aac_of_damaged_packets(2000),
    "64 channels": lambda: hostile.wav_of_channels(64, 1.0),
    "Ogg links": lambda: media.encode(media.sweep(0.2), "ogg", "libopus", rate_hz=48_000) * 100,
}


@dataclass
class Outcome:
    """Results of all requests."""

    answers: Counter[str] = field(default_factory=Counter)
    """By kind and status."""
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    retried: int = 0
    """Answers 503 with Retry-After while a model was down, after which the client sent the request again."""
    done: int = 0


class Caller:
    """One client, which sends one request after another."""

    def __init__(self, http: httpx.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
        self._http = http
        self._chance = chance
        self._outcome = outcome

    async def send(self) -> None:
        kind = self._chance.choices(list(MIX), list(MIX.values()))[0]
        requests: dict[str, Callable[[], Awaitable[None]]] = {
            "good": self._good,
            "bad": self._bad,
            "cancelled": self._cancelled,
            "hostile": self._hostile,
        }
        try:
            async with asyncio.timeout(ANSWER_S):
                await requests[kind]()
        except (TimeoutError, httpx.TransportError) as error:
            self._outcome.lost.append(f"{kind}: {type(error).__name__} {error}")
        self._outcome.done += 1

    async def _answer(self, path: str, options: Mapping[str, Any]) -> httpx.Response:
        """The answer, after as many tries as deaths make necessary."""
        while True:
            answer = await self._http.request(**{"method": "POST", "url": path, **options})
            content = answer.json() if answer.status_code == 503 else {}
            if content.get("error", content).get("code") != "model_unavailable" or path == "/readyz":
                return answer
            self._outcome.retried += 1
            await asyncio.sleep(int(answer.headers["retry-after"]))

    def _count(self, kind: str, answer: httpx.Response, right: bool) -> None:
        self._outcome.answers[f"{kind} {answer.status_code}"] += 1
        if not right:
            self._outcome.wrong.append(f"{kind}: {answer.request.url.path} {answer.status_code} {answer.text[:300]}")

    async def _good(self) -> None:
        if self._chance.random() < 0.2:
            path, options = self._chance.choice(GOOD)
            answer = await self._answer(path, options)
            self._count("good", answer, answer.status_code == 200 or path == "/readyz")
            return
        accept = self._chance.choice(["image/png", "application/json", "text/event-stream"])
        data = {"file": self._chance.choice(SPOKEN)}
        answer = await self._answer("/graph", {"files": data, "data": {"seed": "7"}, "headers": {"Accept": accept}})
        text = answer.text if accept != "image/png" else ""
        whole = {
            "image/png": answer.content.startswith(b"\x89PNG") and len(answer.content) == 5008,
            "application/json": '"transcript":"a red apple"' in text,
            # A stream that has begun cannot be sent again: a second death in it ends it with its error.
            "text/event-stream": "event: done" in text or "model_unavailable" in text,
        }[accept]
        self._count("good", answer, answer.status_code == 200 and whole)

    async def _bad(self) -> None:
        path, options = self._chance.choice(examples.REFUSED)
        answer = await self._answer(path, options)
        self._count("bad", answer, 400 <= answer.status_code < 500 or answer.status_code == 504)

    async def _hostile(self) -> None:
        name = self._chance.choice(list(HOSTILE))
        answer = await self._answer("/listen", {"files": {"file": HOSTILE[name]}})
        code = answer.json().get("code")
        self._count("hostile", answer, answer.status_code == 200 or code in REFUSALS)

    async def _cancelled(self) -> None:
        """Leave during the upload, the decoding, a model's work, or a stream."""
        after_s = self._chance.choice([0.0, 0.002, 0.02, 0.05, 0.1])
        recording = self._chance.choice([*SPOKEN, HOSTILE["FLAC comments"]])
        slow = self._chance.random() < 0.3

        async def body() -> Any:
            for at in range(0, len(recording), 4000):
                yield recording[at : at + 4000]
                await asyncio.sleep(0.02 if slow else 0)

        headers = {"Content-Type": "audio/wav", "Accept": self._chance.choice(["image/png", "text/event-stream"])}
        request = asyncio.create_task(self._http.post("/graph", content=body(), headers=headers))
        await asyncio.wait({request}, timeout=after_s)
        request.cancel()
        await asyncio.wait({request})
        if not request.cancelled():
            request.exception()
        self._outcome.answers["cancelled"] += 1


def role(process: psutil.Process) -> str:
    """The kind of a process of the service."""
    name, command = process.name(), process.cmdline()
    if name.startswith("ray::"):
        return name.removeprefix("ray::").removeprefix("ServeReplica:sonograph:").split(".")[0]  # and the method that runs
    if DECODING in command:
        return "decode worker" if DECODING in process.parent().cmdline() else "decode template"
    scripts = [Path(part).stem for part in command[1:3] if part.endswith(".py")]
    return scripts[0] if scripts else name


def sample(root: int) -> dict[str, dict[str, float]]:
    """PSS and RSS in MiB, open files and threads, by kind of process, summed; and the content of /tmp and /dev/shm."""
    found: dict[str, dict[str, float]] = {}
    for process in tree(root):
        try:
            one = {
                "pss_mib": pss_mib(process.pid),
                "rss_mib": process.memory_info().rss / 2**20,
                "files": process.num_fds(),
                "threads": process.num_threads(),
            }
            of_role = found.setdefault(role(process), dict.fromkeys(one, 0.0))
        except (psutil.Error, OSError, AttributeError):  # it has just ended
            continue
        for name, value in one.items():
            of_role[name] += value
    tmp = [entry for entry in os.scandir("/tmp") if not entry.name.startswith("ray")]
    shm = list(os.scandir("/dev/shm"))
    found["/tmp"] = {"entries": len(tmp)}
    found["/dev/shm"] = {"entries": len(shm), "mib": sum(entry.stat().st_blocks for entry in shm) * 512 / 2**20}
    return found


async def die(service: Service) -> None:
    """Kill a replica of each model, and wait until new ones serve."""
    old = {model: service.replica(model) for model in MODELS}
    for process in old.values():
        process.kill()
    async with asyncio.timeout(120):
        async with client(service.url) as http:
            while True:
                await asyncio.sleep(0.5)
                try:
                    replaced = all(service.replica(model) != process for model, process in old.items())
                except (ValueError, psutil.Error):
                    continue
                if replaced and (await http.get("/readyz")).status_code == 200:
                    return


async def run(service: Service, requests: int, deaths: int, seed: int, console: Console) -> dict[str, Any]:
    outcome, samples = Outcome(), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rounds = max(1, deaths // len(MODELS))
    with Progress(*columns, console=console) as progress:
        bars = [
            progress.add_task(name, total=total) for name, total in (("requests", requests), ("deaths", rounds * len(MODELS)))
        ]
        async with client(service.url) as http:

            async def call(number: int) -> None:
                caller = Caller(http, random.Random(seed * 1000 + number), outcome)
                while outcome.done < requests:
                    await caller.send()
                    progress.update(bars[0], completed=min(outcome.done, requests))

            callers = [asyncio.create_task(call(number)) for number in range(CALLERS)]
            for number in range(rounds):
                while outcome.done < (number + 1) * requests / (rounds + 1):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
                samples.append(await asyncio.to_thread(sample, service.process.pid))
                await die(service)
                progress.update(bars[1], advance=len(MODELS))
            await asyncio.gather(*callers)
            await asyncio.sleep(2)
            left = (await http.get("/healthz")).json()["requests"]
    samples.append(sample(service.process.pid))
    return {
        "requests": outcome.done,
        "deaths": rounds * len(MODELS),
        "answers": dict(sorted(outcome.answers.items())),
        "retried": outcome.retried,
        "wrong": outcome.wrong,
        "lost": outcome.lost,
        "left": left,
        "samples": samples,
    }


def window(samples: Sequence[Mapping[str, Mapping[str, float]]], part: tuple[float, float], kind: str, figure: str) -> float:
    chosen = samples[int(part[0] * len(samples)) : max(1, int(part[1] * len(samples)))] or samples
    values = [one[kind][figure] for one in chosen if kind in one]
    return statistics.median(values) if values else 0.0


def growth(result: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """The medians of the early and the last window, by kind of process and figure."""
    samples = result["samples"]
    lasting = [kind for kind in samples[-1] if sum(kind in one for one in samples) > len(samples) / 2]
    return {
        kind: {
            figure: (window(samples, EARLY, kind, figure), window(samples, LATE, kind, figure)) for figure in samples[-1][kind]
        }
        for kind in lasting
    }


def grown(figure: str, early: float, late: float) -> bool:
    most = max(MOST_GROWTH_MIB, early * MOST_GROWTH) if figure.endswith("mib") else MOST_FILES
    return late - early > most


def plot(path: Path, result: Mapping[str, Any]) -> None:
    shown = ("ingress", "ProxyActor", "decode template", "decode worker")
    kinds = [kind for kind in shown if any(kind in one for one in result["samples"])]
    every = result["requests"] / max(1, len(result["samples"]) - 1)

    def line(kind: str, figure: str) -> list[tuple[float, float]]:
        return [(number * every, one[kind][figure]) for number, one in enumerate(result["samples"]) if kind in one]

    panels = [
        chart.Panel(title, "requests", [line(kind, figure) for kind in kinds])
        for title, figure in (("PSS, MiB", "pss_mib"), ("open files", "files"))
    ]
    chart.draw(path, kinds, panels)


def table(result: Mapping[str, Any]) -> list[str]:
    """The lines of a Markdown table."""
    figures = ("pss_mib", "rss_mib", "files", "threads", "entries", "mib")
    lines = ["| | PSS, MiB | RSS, MiB | open files | threads | entries | MiB |", "|---|" + "---:|" * len(figures)]
    for kind, of_kind in growth(result).items():
        cells = [f"{of_kind[figure][0]:.0f} to {of_kind[figure][1]:.0f}" if figure in of_kind else "" for figure in figures]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--deaths", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="a folder for the result and its chart")
    options = parser.parse_args(arguments)
    console = Console(width=140)
    HOSTILE.update({name: make() for name, make in SMALL.items()})
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as name, start(ROOT, Path(name), SETTINGS) as service:
        result = asyncio.run(run(service, options.requests, options.deaths, options.seed, console))
    result["minutes"] = round((time.monotonic() - began_s) / 60, 1)
    result["circumstances"] = circumstances()
    (options.out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(options.out / "soak.png", result)
    console.print("\n".join(table(result)), soft_wrap=True)
    shown = Table("goal", "met")
    shown.add_row("every answer is what it should be", str(result["wrong"][:5] or "yes"))
    shown.add_row("no request is lost, and none is left", str(result["lost"][:5] or result["left"] or "yes"))
    found = [f"{kind} {figure}" for kind, of in growth(result).items() for figure, pair in of.items() if grown(figure, *pair)]
    shown.add_row(
        f"no process grows by more than {MOST_GROWTH_MIB:g} MiB or {MOST_GROWTH:.0%}, or {MOST_FILES} files", str(found or "yes")
    )
    console.print(shown)
    console.print(
        f"{result['answers']}, {result['retried']} tries while a model was down; {result['circumstances']}", soft_wrap=True
    )
    if result["wrong"] or result["lost"] or result["left"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
