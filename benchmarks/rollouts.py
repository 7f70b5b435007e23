"""Rollouts over the real stack: `python -m benchmarks.rollouts [mirror] [aborts] [agreement]`.

`sonograph serve` (proxy, ingress, Triton) over models of known cost, which sleep instead of computing (testing/known_cost), and candidates
of Whisper as Serve applications of their own. `mirror`: the latency of clients while every request is mirrored, beside none. `aborts`:
pairs until a plan aborts a candidate with injected faults, and whether it aborts a good one. `agreement`: time until two ingress replicas
have the same revision.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.progress import track

from benchmarks.load import client
from benchmarks.measure import interval, record, recordings
from benchmarks.services import BINARIES, running, variables
from sonograph.dashboard import Dashboard
from sonograph.keys import RAY_TOKEN, ray_token
from sonograph.rollouts import serve_config
from testing.known_cost.app import SLOWER
from testing.service import ROOT, Service, config, free_port

RESULTS = Path(__file__).with_name("results")
PARTS = ("mirror", "aborts", "agreement")
ROLLOUTS, ROLLOUT = "/graph/rollouts", "/graph/rollouts/whisper"
RECORDINGS = recordings(16)
P50_GOAL, PAIRS_GOAL = 1.03, 60
LOADS = {"1 at once": (1, 0.0), "4 at once": (4, 0.0), "one after another with pauses": (1, 0.25)}
"""Requests at once, and a client's pause between two, in seconds. In it the mirrored request has idle cores, as a candidate's own are."""
PACED = "pauses"
BLOCK = 24
"""Requests of a block, all with the same share of mirrored ones."""
WARM_UP = 60
RATE_AT_ONCE = 3
"""Requests at once of a run of `aborts`: about 15 a second, of which each second's are judged together."""
PAIRS = 200
"""Pairs after which a good candidate has passed."""
POLL_S = 0.1
POLLERS, AGREED_S = 4, 1.5
"""Callers that read the revision after a change, each on a new connection, and the time that they do so."""
BUDGETS = {"max_word_drift": 0.03, "max_p50": 1.2, "max_p95": 1.2}
CANDIDATES: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {
    "a tenth of the words wrong": ({"slower": SLOWER, "wrong_words": 0.1}, ("max_word_drift",)),
    "twice as slow": ({"slower": 2 * SLOWER}, ("max_p50", "max_p95")),
    "good": ({"slower": SLOWER}, tuple(BUDGETS)),
}
"""Each candidate's fault, and the budgets of its plan."""
console = Console(width=140)


@dataclass(frozen=True)
class Run:
    """One rollout, from its begin to its abort or its last pair."""

    pairs: int
    """Pairs that the last judgement had."""
    aborted_after_s: float | None
    """Time from the first answer that the judgement before did not have: at most so long after the breaking pair. None: not aborted."""
    reason: str


@contextlib.contextmanager
def serving(import_path: str, faults: Mapping[str, Mapping[str, float]], ingresses: int = 1) -> Iterator[Service]:
    """Serve the application `import_path` of testing.known_cost.app, and a candidate for each name in `faults`."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, console.status("Starting ..."):
        content = yaml.safe_load(config(port, {"ingress": {"num_replicas": ingresses}}))
        content["applications"][0]["import_path"] = f"testing.known_cost.app:{import_path}"
        path = Path(folder) / "sonograph.yaml"
        path.write_text(yaml.safe_dump(content))
        ours = {"XDG_STATE_HOME": folder, "PYTHONPATH": str(ROOT)}
        command = [str(BINARIES / "sonograph"), "serve", "--config", str(path), "--port", str(port)]
        with running(command, variables() | ours, port, Path(folder), "/readyz") as service:
            _add(service, faults)
            yield service


def _add(service: Service, faults: Mapping[str, Mapping[str, float]]) -> None:
    """Add the candidates to Serve's config, and wait until they serve."""
    with Dashboard(service.client.get(ROLLOUTS).json()["serve_api"], ray_token(RAY_TOKEN)) as dashboard:
        before = serve_config.running(dashboard.details())
        added = [_application(name, fault) for name, fault in faults.items()]
        dashboard.deploy({**before, "applications": [*before["applications"], *added]})
        states = [""]
        while set(states) != {"RUNNING"}:
            if "DEPLOY_FAILED" in states:
                raise SystemExit(f"a candidate does not start: {dashboard.details()['applications']}")
            time.sleep(0.5)
            states = [application["status"] for application in dashboard.details()["applications"].values()]


def _application(name: str, fault: Mapping[str, float]) -> dict[str, Any]:
    """A candidate's application. It sleeps, so that a small part of a CPU is as good as one of its own."""
    deployment = {"name": "whisper", "ray_actor_options": {"num_cpus": 0.1}}
    args = {"model": "whisper", "fault": dict(fault)}
    described = {"name": name.replace(" ", "-"), "route_prefix": None, "args": args, "deployments": [deployment]}
    return {**described, "import_path": "testing.known_cost.app:candidate"}


async def change(http: httpx.AsyncClient, **content: Any) -> dict[str, Any]:
    """Begin or change the rollout; return it."""
    answer = await http.put(ROLLOUT, json=content)
    if answer.status_code != 200:
        raise SystemExit(f"{ROLLOUT} answers {answer.status_code}: {answer.text}")
    return dict(answer.json())


async def ask(http: httpx.AsyncClient, path: str, recording: bytes) -> float:
    """Send a recording; return the seconds until the whole answer. Raises for any answer but 200."""
    began_s = time.perf_counter()
    (await http.post(path, files={"file": recording}, headers={"Accept": "application/json"})).raise_for_status()
    return time.perf_counter() - began_s


async def latencies_s(http: httpx.AsyncClient, path: str, requests: int, at_once: int, pause_s: float) -> list[float]:
    found, numbers = list[float](), iter(range(requests))

    async def caller() -> None:
        for number in numbers:
            found.append(await ask(http, path, RECORDINGS[number % len(RECORDINGS)]))
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return found


async def blocks(service: Service, path: str, load: str, pairs: int) -> dict[str, Any]:
    """Compare p50 with every request mirrored and with none, in pairs of blocks whose order alternates."""
    p50_ms: dict[int, list[float]] = {0: [], 100: []}
    at_once, pause_s = LOADS[load]
    async with client(service.url) as http:
        for number in track(range(pairs), f"{path}, {load}", console=console):
            for mirror in (0, 100)[:: 1 if number % 2 else -1]:
                await change(http, mirror=mirror)
                p50_ms[mirror].append(statistics.median(await latencies_s(http, path, BLOCK * at_once, at_once, pause_s)) * 1000)
        compared = (await http.get(ROLLOUT)).json()["figures"]["pairs"]["count"]
    return {"requests": BLOCK * at_once * pairs, "compared": compared, **ratio(p50_ms[0], p50_ms[100])}


def ratio(alone_ms: Sequence[float], mirrored_ms: Sequence[float]) -> dict[str, Any]:
    """The median of the pairs' ratios, with its 95% interval."""
    ratios = [mirrored / alone for alone, mirrored in zip(alone_ms, mirrored_ms, strict=True)]
    low, high = interval(ratios)
    medians = {"alone_ms": statistics.median(alone_ms), "mirrored_ms": statistics.median(mirrored_ms)}
    return {**medians, "ratio": statistics.median(ratios), "low": low, "high": high, "ratios": ratios}


def mirror(runs: int) -> dict[str, Any]:
    async def begin(service: Service) -> None:
        async with client(service.url) as http:
            await change(http, application="good", mirror=100)
            for path in ("/graph", "/listen"):
                await latencies_s(http, path, WARM_UP, 4, 0.0)

    with serving("app", {"good": {}}) as service:
        asyncio.run(begin(service))
        return {
            f"{path}, {load}": asyncio.run(blocks(service, path, load, runs)) for path in ("/graph", "/listen") for load in LOADS
        }


async def rollout(http: httpx.AsyncClient, name: str, seed: int) -> Run:
    """Begin a rollout whose plan gives the candidate a tenth, with every request mirrored, and send until its end."""
    chance, answered, looks = random.Random(seed), list[float](), [0]
    plan = {"steps": [10, 100], "every_s": 3600, "budgets": {budget: BUDGETS[budget] for budget in CANDIDATES[name][1]}}
    await change(http, application=name.replace(" ", "-"), mirror=100, plan=plan)

    async def caller() -> None:
        while True:
            await ask(http, "/listen", chance.choice(RECORDINGS))
            answered.append(time.time())

    callers = [asyncio.create_task(caller()) for _ in range(RATE_AT_ONCE)]
    try:
        while True:
            await asyncio.sleep(POLL_S)
            for task in callers:
                if task.done():
                    task.result()  # which raises: a client has had an error
            seen = (await http.get(ROLLOUTS)).json()["rollouts"]["whisper"]
            state, judged = seen["rollout"], max((one["n"] for one in seen["verdicts"]), default=0)
            if state["status"] == "aborted":
                assert state["share"] == state["mirror"] == 0, state
                since_s = answered[min(looks[-1], len(answered) - 1)]
                return Run(judged, state["written_at"] - since_s, state["reason"])
            if judged >= PAIRS:
                await change(http, status="aborted")
                return Run(judged, None, "")
            looks.append(judged)
    finally:
        for task in callers:
            task.cancel()
        await asyncio.wait(callers)


def aborts(runs: int) -> dict[str, Any]:
    async def measured(service: Service) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {name: [] for name in CANDIDATES}
        async with client(service.url) as http:
            for seed in track(range(runs), "rollouts", console=console):
                for name, of in found.items():
                    of.append(await rollout(http, name, seed))
        return found

    with serving("slow", {name: fault for name, (fault, _) in CANDIDATES.items()}) as service:
        return {name: [asdict(one) for one in of] for name, of in asyncio.run(measured(service)).items()}


async def agreed_s(http: httpx.AsyncClient, share: float) -> float:
    """Change the share; return the time from the answer to the end of the last reading of the revision before."""
    revision = (await change(http, share=share))["rollout"]["revision"]
    began_s, last_s = time.perf_counter(), 0.0

    async def read() -> None:
        nonlocal last_s
        while time.perf_counter() < began_s + AGREED_S:
            seen = (await http.get(ROLLOUTS)).json()["rollouts"].get("whisper")
            if seen is None or seen["rollout"]["revision"] < revision:
                last_s = max(last_s, time.perf_counter() - began_s)

    await asyncio.gather(*(read() for _ in range(POLLERS)))
    return last_s


def agreement(runs: int) -> dict[str, Any]:
    async def measured(service: Service) -> list[float]:
        async with client(service.url) as http:
            await change(http, application="good", share=1)
            await asyncio.sleep(AGREED_S)
            return [await agreed_s(http, number + 2) for number in track(range(runs), "changes", console=console)]

    with serving("app", {"good": {}}, ingresses=2) as service:
        return {"seconds": asyncio.run(measured(service))}


def table(results: Mapping[str, Any]) -> list[str]:
    """Rows of the table of README.md."""
    lines = ["| goal | measured | |", "|---|---|---|"]
    for name, one in (results.get("mirror") or {}).items():
        if isinstance(one, dict):
            met = "met" if one["high"] <= P50_GOAL else "**not met**" if one["low"] > P50_GOAL else "not decided"
            times = f"{one['alone_ms']:.1f} and {one['mirrored_ms']:.1f} ms: {one['ratio']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
            goal = f"at most {P50_GOAL}" if PACED in name else "both models on the same busy cores"
            lines.append(
                f"| p50 of `{name.replace(',', '`,')} with every request mirrored: {goal} | {times} | {met if PACED in name else ''} |"
            )
    for name, runs in (results.get("aborts") or {}).items():
        if isinstance(runs, list):
            lines.append(_aborts_row(name, runs))
    if "agreement" in results:
        seconds = results["agreement"]["seconds"]
        took = f"{statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
        lines.append(f"| time until two ingress replicas agree after a change | {took} in {len(seconds)} changes | |")
    return lines


def _aborts_row(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    aborted = [run for run in runs if run["aborted_after_s"] is not None]
    if name == "good":
        met = "met" if not aborted else "**not met**"
        return f"| a good candidate is never aborted, in {PAIRS} pairs | {len(aborted)} of {len(runs)} aborted | {met} |"
    found = f"{len(aborted)} of {len(runs)} aborted"
    pairs, after_s = [run["pairs"] for run in aborted], [run["aborted_after_s"] for run in aborted]
    if aborted:
        late = f"at most {statistics.median(after_s):.1f} s ({max(after_s):.1f} s) after the breaking pair"
        found += f", after {statistics.median(pairs):.0f} pairs ({min(pairs)} to {max(pairs)}), {late}"
    met = "met" if len(aborted) == len(runs) and statistics.median(pairs) <= PAIRS_GOAL else "**not met**"
    return f"| {name}: aborted within {PAIRS_GOAL} pairs (median) | {found} | {met} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="|".join(PARTS))
    parser.add_argument("--runs", type=int, default=20, help="pairs of blocks, rollouts of each candidate, changes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a folder for the result")
    options = parser.parse_args(arguments)
    parts = dict(zip(PARTS, (mirror, aborts, agreement), strict=True))
    record(options.out / "rollouts.json", parts, options.parts, options.runs, console)


if __name__ == "__main__":
    main()
