"""One round of one service, from its start to its end: what `benchmarks.peers` measures in turns."""

import asyncio
import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil

from benchmarks.hops import all_ns
from benchmarks.load import NO_ANSWER, Answer, arrivals, client, open_loop, percentile
from benchmarks.measure import Others, pss_mib, tree
from benchmarks.peers.services import BOUND, Outcome, Peer

CALLERS = 16
"""Enough to fill the batches of both models, and fewer than the bound on requests in a service."""
REQUESTS = 32
"""For the capacity: all are sent by CALLERS, each of which sends its next one when its last has ended."""
LATENCY_S = 12.0
OVERLOAD_S = 12.0
"""With all places of the service taken: arrivals begin as much earlier as it takes to fill them."""
SHARE = 0.7
OVERLOAD = 2.0
CLIENT_S = 60.0
WARM_UP = 12
"""Requests one after the other: BentoML learns how long to gather a batch from the first ones."""
LONE = 5
"""Requests one after the other, for the latency of an idle service."""
LEAVING = 4
LEAVES_AT = 0.3
"""When a client leaves, as a share of a lone request's time."""
QUIET_S = 2.0
"""For the cost of an idle service."""
NORMAL = 1.5
"""A service is normal again when a lone request takes at most so many times what it took before."""
NOT_NORMAL_S = 90.0

type Verdict = Literal["same", "other words", "wrong"]
type Judge = Callable[[int, Outcome], Verdict]
"""Verdict on the answer to the recording of this number, beside the service's own answer to it at rest."""


@dataclass(frozen=True)
class Overload:
    """Outcomes of the requests at twice the capacity."""

    sent: int
    answered: int
    refused: int
    """429, 503 or 504."""
    lost: int
    """No answer within 60 s, a broken connection, or an error that is no refusal."""
    wrong: int
    reworded: int
    """Of the answered, those whose text is nearly that at rest."""
    reason: str
    """A refusal's sentence, or what stands for one."""
    normal_again_s: float
    """From the last arrival; NOT_NORMAL_S where it did not become normal by then."""


@dataclass(frozen=True)
class Round:
    """Results of one round. CPU and memory are those of all of the service's processes."""

    first_answer_s: float
    """From the start of its command."""
    lone_s: float
    """Median latency of a lone request."""
    per_s: float
    """Capacity: answers a second to CALLERS callers without a pause, of REQUESTS requests."""
    per_cpu_s: float
    """Answers for a CPU-second at that load."""
    memory_mib: float
    """Proportional set size at that load's end."""
    own_s: tuple[float, float]
    """p50 and p95 of Poisson arrivals at 70% of its own capacity."""
    common_s: tuple[float, float]
    """The same at 70% of the smallest capacity of all."""
    overload: Overload
    left_cpu: float
    """CPU after its client left, as a share of a whole request's."""
    others_cores: float
    """Cores that other processes kept busy."""


class Caller:
    """Client of one service that remembers what it got."""

    def __init__(self, peer: Peer, http: httpx.AsyncClient, recordings: Sequence[bytes]) -> None:
        self._peer = peer
        self._http = http
        self.recordings = recordings
        self.outcomes: list[tuple[int, Outcome]] = []

    async def once(self, number: int) -> Outcome:
        """Send the recording of this number."""
        number %= len(self.recordings)
        try:
            async with asyncio.timeout(CLIENT_S):
                outcome = await self._peer.post(self._http, self.recordings[number])
        except (TimeoutError, httpx.TransportError) as error:
            outcome = Outcome(NO_ANSWER, error=type(error).__name__)
        self.outcomes.append((number, outcome))
        return outcome

    def another(self) -> "Caller":
        """Return a client that has got nothing yet."""
        return Caller(self._peer, self._http, self.recordings)

    async def send(self, number: int) -> int:
        return (await self.once(number)).status


def run(peer: Peer, recordings: Sequence[bytes], smallest_per_s: float, judge: Judge, step: Callable[[str], None]) -> Round:
    """Measure one round. `smallest_per_s`: of all services' capacities. Raises SystemExit where the service does not start."""
    others = Others()
    step("starts")
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.perf_counter()
        with peer.start(Path(folder)) as service:
            return asyncio.run(
                _measured(peer, service.url, service.process.pid, recordings, smallest_per_s, judge, step, began_s, others)
            )


def capacity(peer: Peer, recordings: Sequence[bytes], step: Callable[[str], None]) -> tuple[float, list[Outcome]]:
    """Return the capacity, and the answer at rest to each recording."""

    async def measured(url: str) -> tuple[float, list[Outcome]]:
        async with client(url) as http:
            caller = Caller(peer, http, recordings)
            await _first(caller)
            outcomes = [await caller.once(number) for number in range(len(recordings))]
            return await _capacity(caller), outcomes

    step("starts")
    with tempfile.TemporaryDirectory() as folder, peer.start(Path(folder)) as service:
        step("capacity")
        return asyncio.run(measured(service.url))


async def _first(caller: Caller) -> None:
    """Return at the first answer. A service that says that it is ready may still load its models."""
    until_s = time.perf_counter() + CLIENT_S
    while (outcome := await caller.once(0)).status != 200:
        if time.perf_counter() > until_s:
            raise SystemExit(f"no answer within {CLIENT_S:g} s: {outcome.status} {outcome.error[:300]}")
        await asyncio.sleep(0.05)


async def _measured(
    peer: Peer,
    url: str,
    pid: int,
    recordings: Sequence[bytes],
    smallest_per_s: float,
    judge: Judge,
    step: Callable[[str], None],
    began_s: float,
    others: Others,
) -> Round:
    async with client(url) as http:
        caller = Caller(peer, http, recordings)
        await _first(caller)
        first_answer_s = time.perf_counter() - began_s
        step("capacity")
        await asyncio.gather(*(caller.once(number) for number in range(CALLERS)))
        for number in range(WARM_UP):
            await caller.once(number)
        lone_s = statistics.median([await _timed(caller, number) for number in range(LONE)])
        caller.outcomes.clear()
        with _Spent(pid) as used:
            own_per_s = await _capacity(caller)
        answered = len([outcome for _, outcome in caller.outcomes if outcome.status == 200])
        memory_mib = sum(map(_pss_mib, tree(pid)))
        latencies = []
        for rate in (SHARE * own_per_s, SHARE * smallest_per_s):
            step(f"{rate:.1f} a second")
            latencies.append(_p50_p95(await open_loop(caller.send, arrivals(rate, LATENCY_S, seed=1))))
        step("twice the capacity")
        overload = await _overload(caller, own_per_s, lone_s, judge)
        step("clients leave")
        left_cpu = await _left(caller, pid, lone_s)
        return Round(
            first_answer_s=first_answer_s,
            lone_s=lone_s,
            per_s=own_per_s,
            per_cpu_s=answered / used.cpu_s,
            memory_mib=memory_mib,
            own_s=latencies[0],
            common_s=latencies[1],
            overload=overload,
            left_cpu=left_cpu,
            others_cores=others.cores,
        )


async def _capacity(caller: Caller) -> float:
    """Return answers a second. A service that batches answers in clumps, so the time is that of all requests."""
    numbers = iter(range(REQUESTS))

    async def call() -> int:
        return sum([(await caller.once(number)).status == 200 for number in numbers])

    began_s = time.perf_counter()
    answered = sum(await asyncio.gather(*(call() for _ in range(CALLERS))))
    return answered / (time.perf_counter() - began_s)


async def _timed(caller: Caller, number: int) -> float:
    began_s = time.perf_counter()
    await caller.once(number)
    return time.perf_counter() - began_s


def _p50_p95(answers: Sequence[Answer]) -> tuple[float, float]:
    latencies_s = [answer.latency_s for answer in answers]
    return percentile(latencies_s, 0.50), percentile(latencies_s, 0.95)


def _pss_mib(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return pss_mib(process.pid)
    return 0.0


async def _overload(caller: Caller, own_per_s: float, lone_s: float, judge: Judge) -> Overload:
    fill_s = BOUND / ((OVERLOAD - 1) * own_per_s)
    due_s = arrivals(OVERLOAD * own_per_s, fill_s + OVERLOAD_S, seed=2)
    caller.outcomes.clear()
    probing = asyncio.create_task(_normal_again(caller.another(), due_s[-1], lone_s))
    await open_loop(caller.send, due_s)
    outcomes = caller.outcomes
    normal_again_s = await probing
    verdicts = [judge(number, outcome) for number, outcome in outcomes if outcome.status == 200]
    refused = [outcome for _, outcome in outcomes if outcome.refused]
    return Overload(
        sent=len(outcomes),
        answered=len(verdicts) - verdicts.count("wrong"),
        refused=len(refused),
        lost=len(outcomes) - len(verdicts) - len(refused),
        wrong=verdicts.count("wrong"),
        reworded=verdicts.count("other words"),
        reason=refused[0].error[:300] if refused else "",
        normal_again_s=normal_again_s,
    )


async def _normal_again(caller: Caller, after_s: float, lone_s: float) -> float:
    """Return how long after `after_s`, in seconds from now, a request takes no longer than it does at rest, or nearly."""
    await asyncio.sleep(after_s)
    began_s = time.perf_counter()
    while (passed_s := time.perf_counter() - began_s) < NOT_NORMAL_S:
        at_s = time.perf_counter()
        outcome = await caller.once(0)
        if outcome.status == 200 and time.perf_counter() - at_s <= NORMAL * lone_s:
            return passed_s
        await asyncio.sleep(lone_s / 4)
    return NOT_NORMAL_S


async def _left(caller: Caller, pid: int, lone_s: float) -> float:
    """Return the CPU after clients left, each alone, by that of as many whole requests. The cost of an idle service is taken off both."""
    with _Spent(pid) as idle:
        await asyncio.sleep(QUIET_S)
    idle_cores = idle.cpu_s / QUIET_S
    rest_s = max(0.5, 2 * lone_s)
    whole_s = after_s = 0.0
    for number in range(LEAVING):
        with _Spent(pid, idle_cores) as whole:
            await caller.once(number)
            await asyncio.sleep(rest_s)
        whole_s += whole.cpu_s
        task = asyncio.create_task(caller.once(number))
        await asyncio.sleep(LEAVES_AT * lone_s)
        with _Spent(pid, idle_cores) as after:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(rest_s)
        after_s += after.cpu_s
    return after_s / whole_s if whole_s > 0 else math.nan  # models that sleep use less than the kernel's tick of 10 ms


class _Spent:
    """CPU seconds of a service within the context, its ended processes included, less those of an idle one."""

    def __init__(self, pid: int, idle_cores: float = 0.0) -> None:
        self._pid = pid
        self._idle_cores = idle_cores
        self.cpu_s = 0.0

    def __enter__(self) -> "_Spent":
        self._began = (all_ns(self._pid), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        passed_s = time.perf_counter() - self._began[1]
        self.cpu_s = (all_ns(self._pid) - self._began[0]) / 1e9 - self._idle_cores * passed_s
