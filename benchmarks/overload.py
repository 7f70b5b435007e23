"""Behaviour under more load than can be served: `python -m benchmarks.overload`.

For this service and the blog article's architecture of the same graph (peers/article), one after the other: the capacity, with sixteen
callers without a pause; then Poisson arrivals (seeded) at each multiple of it, whatever the answers. Each client waits 60 s.
"""

import argparse
import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import chart, measure
from benchmarks.load import NO_ANSWER, Answer, arrivals, client, closed_loop, open_loop, per_s, percentile, sender
from benchmarks.services import SERVICES
from graphs.http.settings import HttpSettings
from testing.service import Service

RESULTS = Path(__file__).with_name("results")
QUEUE = HttpSettings().max_concurrent_requests
CALLERS = 16
"""Enough to fill the batches of both models, and fewer than this service's bound on concurrent requests."""
CAPACITY_S = 30.0
SETTLE_TRIES = 60
SEED = 4


@dataclass(frozen=True)
class Row:
    """Results at one load. NaN where there is nothing to measure."""

    load: float
    """Multiple of the service's own capacity."""
    per_s: float
    """Requests sent per second."""
    sent: int
    ok: int
    refused: int
    """503."""
    late: int
    """504."""
    other: int
    no_answer: int
    """No answer within 60 s, or a broken connection."""
    goodput: float
    """Rate of answers 200, from the first to the end of the last request, divided by the capacity."""
    p50_s: float
    """Latencies of requests that were not refused; a client that gave up counts with its 60 s."""
    p95_s: float
    p99_s: float
    refused_p99_s: float
    rss_before_mib: float
    rss_after_mib: float
    others_cores: float
    """Cores busy with other processes: above some tenths the results are not of this service alone."""
    stall_s: float
    """The longest wake-up delay of a sleeping process: a lower bound on the slowest answer."""


@dataclass(frozen=True)
class Goal:
    text: str
    measured: str
    met: bool | None
    """None where there was nothing to measure."""


@dataclass(frozen=True)
class Measured:
    service: str
    capacity_per_s: float
    others_cores: float
    """During the measurement of the capacity."""
    rows: list[Row]


def summary(
    answers: Sequence[Answer],
    load: float,
    capacity_per_s: float,
    seconds: float,
    rss_mib: tuple[float, float],
    others_cores: float,
    stall_s: float,
) -> Row:
    statuses = [answer.status for answer in answers]
    accepted_s = [answer.latency_s for answer in answers if answer.status != 503]
    counted = [200, 503, 504, NO_ANSWER]
    ok, refused, late, no_answer = (statuses.count(status) for status in counted)
    last_s = max((answer.ended_s for answer in answers), default=math.nan)
    return Row(
        load=load,
        per_s=len(answers) / seconds,
        sent=len(answers),
        ok=ok,
        refused=refused,
        late=late,
        other=sum(status not in counted for status in statuses),
        no_answer=no_answer,
        goodput=per_s(answers, last_s) / capacity_per_s,
        p50_s=percentile(accepted_s, 0.50),
        p95_s=percentile(accepted_s, 0.95),
        p99_s=percentile(accepted_s, 0.99),
        refused_p99_s=percentile([answer.latency_s for answer in answers if answer.status == 503], 0.99),
        rss_before_mib=rss_mib[0],
        rss_after_mib=rss_mib[1],
        others_cores=others_cores,
        stall_s=stall_s,
    )


def goals(rows: Sequence[Row], capacity_per_s: float, queue: int) -> list[Goal]:
    """Compare the rows with the goals; `queue` is the service's bound on concurrent requests, waiting ones included."""
    twice = next((row.goodput for row in rows if row.load == 2), math.nan)
    bound_s = (queue + 1) / capacity_per_s * 1.5
    slowest_s = max((row.p95_s for row in rows), default=math.nan)
    refusal_s = max((row.refused_p99_s for row in rows if row.refused), default=math.nan)
    growth = rows[-1].rss_after_mib / rows[0].rss_before_mib if rows else math.nan
    return [
        _goal("goodput at twice the capacity is at least 95% of it", f"{twice:.1%}", twice, twice >= 0.95),
        _goal(
            f"p95 of accepted requests is at most (queue + 1) x service time x 1.5 = {bound_s:.1f} s",
            f"{slowest_s:.1f} s",
            slowest_s,
            slowest_s <= bound_s,
        ),
        _goal("p99 of refusals is at most 100 ms", f"{refusal_s * 1000:.0f} ms", refusal_s, refusal_s <= 0.1),
        _goal("memory grows by at most 5%", f"{growth - 1:+.1%}", growth, growth <= 1.05),
    ]


def _goal(text: str, measured: str, value: float, met: bool) -> Goal:
    return Goal(text, measured, met) if math.isfinite(value) else Goal(text, "nothing to measure", None)


def table(measured: Measured) -> Table:
    title = f"{measured.service}: capacity {measured.capacity_per_s:.2f}/s (others' cores: {measured.others_cores:.1f})"
    shown = Table(title=title, title_justify="left")
    for heading in ("load", "sent/s", "sent", "200", "503", "504", "other", "no answer", "goodput"):
        shown.add_column(heading, justify="right")
    for heading in ("p50 s", "p95 s", "p99 s", "503: p99 ms", "RSS MiB", "others' cores", "stall ms"):
        shown.add_column(heading, justify="right")
    for row in measured.rows:
        counts = (row.sent, row.ok, row.refused, row.late, row.other, row.no_answer)
        shown.add_row(
            f"{row.load:g} x",
            f"{row.per_s:.2f}",
            *(str(count) for count in counts),
            f"{row.goodput:.0%}",
            *(_format(value) for value in (row.p50_s, row.p95_s, row.p99_s)),
            _format(row.refused_p99_s * 1000, 0),
            f"{row.rss_before_mib:.0f} to {row.rss_after_mib:.0f}",
            f"{row.others_cores:.1f}",
            _format(row.stall_s * 1000, 0),
        )
    return shown


def _format(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def duration_s(seconds: float, load: float, capacity_per_s: float, queue: int) -> float:
    """Return the duration of a load: above the capacity it includes the time to fill the queue, since overload begins when it is full."""
    return seconds + (queue / ((load - 1) * capacity_per_s) if load > 1 else 0.0)


async def measured(
    name: str, service: Service, recordings: Sequence[bytes], loads: Sequence[float], seconds: float, progress: Progress
) -> Measured:
    async with client(service.url) as http:
        send = sender(http, recordings)
        await _settle(http, recordings[0])  # the article's service loads its models now
        for number in range(len(recordings)):
            await send(number)
        task = progress.add_task(f"{name}: capacity", total=None)
        others = measure.Others()
        answers = await closed_loop(send, CALLERS, CAPACITY_S, partial(progress.advance, task))
        progress.update(task, total=len(answers), completed=len(answers))
        capacity_per_s, meanwhile_cores = per_s(answers), others.cores
        if not capacity_per_s:
            raise SystemExit(f"{name} answered {sorted({answer.status for answer in answers})}: there is no capacity to measure")
        rows = []
        for number, load in enumerate(loads):
            long_s = duration_s(seconds, load, capacity_per_s, QUEUE)
            due_s = arrivals(load * capacity_per_s, long_s, SEED + number)
            before, others = _rss_mib(service), measure.Others()
            task = progress.add_task(f"{name}: {load:g} x {capacity_per_s:.2f}/s for {long_s:.0f} s", total=len(due_s))
            with measure.Stalls() as stalls:
                answers = await open_loop(send, due_s, partial(progress.advance, task))
            others_cores, stall_s = others.cores, max(stalls.late_s)
            await _settle(http, recordings[0])
            rows.append(summary(answers, load, capacity_per_s, long_s, (before, _rss_mib(service)), others_cores, stall_s))
    return Measured(name, capacity_per_s, meanwhile_cores, rows)


async def _settle(http: httpx.AsyncClient, recording: bytes) -> None:
    """Return when a request has been served, and with it every earlier one."""
    status = 0
    for _ in range(SETTLE_TRIES):
        status = (await http.post("/graph", files={"file": recording})).status_code
        if status == 200:
            return
        await asyncio.sleep(1)
    raise SystemExit(f"a lone request is answered with {status}: the service does not recover")


def _rss_mib(service: Service) -> float:
    return sum(measure.rss_mib(service.process.pid).values())


def _chart(path: Path, results: Sequence[Measured]) -> None:
    chart.draw(
        path,
        [f"{one.service} (capacity {one.capacity_per_s:.2f} requests/s)" for one in results],
        [
            chart.Panel(
                "Goodput / capacity",
                "offered load / capacity",
                [[(row.load, row.goodput) for row in one.rows] for one in results],
                level=1.0,
            ),
            chart.Panel(
                "p95 latency of what was not refused, in seconds",
                "offered load / capacity",
                [[(row.load, row.p95_s) for row in one.rows] for one in results],
            ),
        ],
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, in which NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(content), parse_constant=lambda name: None)
    path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of arrivals at each load, once the queue can be full")
    parser.add_argument("--loads", default="0.5,1,2,4", help="multiples of the capacity")
    parser.add_argument("--peer", choices=[*list(SERVICES)[1:], "none"], default="article", help="measured beside this service")
    arguments = parser.parse_args()
    loads = [float(load) for load in arguments.loads.split(",")]
    console = Console(width=150)
    machine = {"machine": measure.machine(), "load_at_the_start": measure.load(), "commit": measure.commit()}
    recordings = measure.recordings(4)
    results = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    for name in ["sonograph", *([] if arguments.peer == "none" else [arguments.peer])]:
        with Progress(*columns, console=console) as progress, tempfile.TemporaryDirectory() as folder:
            starting = progress.add_task(f"{name}: starting", total=1)
            with SERVICES[name](Path(folder)) as service:
                progress.update(starting, completed=1)
                results.append(asyncio.run(measured(name, service, recordings, loads, arguments.seconds, progress)))
        console.print(table(results[-1]))
    found = goals(results[0].rows, results[0].capacity_per_s, QUEUE)
    for goal in found:
        verdict = {True: "met", False: "not met", None: "not measured"}[goal.met]
        console.print(f"{verdict}: {goal.text}; it is {goal.measured}", soft_wrap=True)
    console.print("{machine}, load at the start {load_at_the_start}, commit {commit}".format(**machine), soft_wrap=True)
    content = {**machine, "queue": QUEUE, "services": [asdict(one) for one in results], "goals": [asdict(goal) for goal in found]}
    _write(RESULTS / "overload.json", content)
    _chart(RESULTS / "overload.png", results)
    sys.exit(0 if all(goal.met for goal in found) else 1)


if __name__ == "__main__":
    main()
