"""CPU of each hop of a request, without that of the models: `python -m benchmarks.hops [OLD_CHECKOUT]`.

The service of this checkout, and of an old one where it is named, with everything but the models' engines: proxy, ingress, decode worker,
replicas, Triton servers and stubs are the real ones, and a model in a stub sleeps instead of computing. One client, and then four at
once, post a recording of 10 s and get a picture of 60 KB, in turns of some requests to each side. CPU is that of each thread of each
process below the service's first, read from the kernel; py-spy, where it is installed, divides the Python threads' by what they ran.
"""

import argparse
import contextlib
import io
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import chart
from benchmarks.commits import compared
from benchmarks.measure import Others, circumstances, commit, recordings, roles, tree
from benchmarks.services import BINARIES, running, variables
from graphs.audio.decode import decode
from testing.service import ROOT, Service, free_port

RESULTS = Path(__file__).with_name("results")
SLEEPS_S = {"whisper": 0.05, "diffusion": 0.1}
RECORDING_S = 10
WARM_UP = 60
IDLE_S = 20.0
TURNS = 4
AT_ONCE = 4
PROFILED_S = 20
TOP = 20
GOALS = {"new / old": 0.5, "p50_ms": 190.0}
MODEL = """
import asyncio, json
import numpy as np
import triton_python_backend_utils as pb_utils

IMAGE = np.random.default_rng(0).integers(0, 255, 60_000, dtype=np.uint8)
IMAGE[:8] = np.frombuffer(b"\\x89PNG\\r\\n\\x1a\\n", np.uint8)
TEXTS = {"TEXT": "a red apple", "LANGUAGE": "en", "SEGMENT_TEXT": "a red apple"}
ARRAYS = {
    "SEGMENT_STATS": np.array([[[0, 10, -0.25, 0.125]]], np.float32), "SEGMENT_FIGURES": np.array([[[0, 10, -0.25, 0.125]]], np.float32),
    "IMAGE": IMAGE, "IMAGE_SIZE": np.array([64, 64], np.int32), "PROMPT_TRUNCATED": np.zeros(1, np.uint8), "FLAGGED": np.zeros(1, np.uint8),
    "ENCODE_MS": np.ones(1, np.float32), "STEPS_TAKEN": np.array([12], np.int32),
}
KINDS = {"TYPE_FP32": np.float32, "TYPE_INT32": np.int32}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._outputs = [one for one in config["output"] if one["name"] in TEXTS or one["name"] in ARRAYS or one["name"] in TIMES]
        self._batched = config["max_batch_size"] > 0
        self._sleep_s = SLEEPS_S[config["name"]]

    async def execute(self, requests):
        await asyncio.gather(*map(self._respond, requests))

    async def _respond(self, request):
        sender = request.get_response_sender()
        steps = pb_utils.get_input_tensor_by_name(request, "STEPS")
        audio = pb_utils.get_input_tensor_by_name(request, "AUDIO")
        work = steps.as_numpy().flat[0] if steps is not None else audio.as_numpy().size
        if work:
            await asyncio.sleep(self._sleep_s)
        tensors = [pb_utils.Tensor(one["name"], self._output(one)) for one in self._outputs]
        sender.send(pb_utils.InferenceResponse(tensors), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _output(self, one):
        name = one["name"]
        if name in TEXTS:
            value = np.array([TEXTS[name].encode()], dtype=np.object_)
            return value[None] if self._batched else value
        if name in ARRAYS:
            return ARRAYS[name]
        sizes = [int(size) for size in one["dims"]]
        return np.full([1] * self._batched + sizes, TIMES[name], KINDS[one["data_type"]])


TIMES = {"COMPUTE_S": 0.01, "COST_S": 0.01, "BATCH_SIZE": 1, "ROWS": 1}
"""
"""Sleeping model of either checkout: the names of its outputs are those of the configuration beside it."""

HOPS = {
    "voice detection": ("graphs/audio/vad", "pysilero"),
    "decoding": ("graphs/audio", "graphs/recording", "av/"),
    "Triton": ("tritonserver", "deployments/triton"),
    "metrics": (
        "ray/util/metrics",
        "serve/metrics",
        "metrics_utils",
        "graphs/core/metrics",
        "_private/metrics",
        "opencensus",
        "opentelemetry",
    ),
    "logs": ("logging/", "graphs/logs", "logging_utils", "access_log"),
    "traces": ("graphs/tracing", "deployments/call_spans", "deployments/span", "tracing"),
    "handles": (
        "ray/_raylet",
        "_raylet.pyx",
        "ray/actor",
        "ray/_private",
        "serialization",
        "serve/handle",
        "_private/router",
        "request_router",
        "replica_result",
        "cloudpickle",
        "serve/_private/replica",
        "grpc",
    ),
    "HTTP": ("uvicorn", "starlette", "fastapi", "h11", "httptools", "graphs/http", "multipart", "pydantic", "http_util", "proxy"),
    "graph": ("graphs/", "deployments/"),
    "event loop": ("asyncio", "uvloop", "selectors"),
}
"""Parts of a Python thread's time, by a part of the path of a function's file; the function nearest to the leaf decides."""
NATIVE = (
    "grpc",
    "event_engine",
    "client.poll",
    "server.poll",
    "worker.io",
    "timer",
    "resolver",
    "task_event",
    "jemalloc",
    "rpc",
    "raylet",
)
console = Console(width=150)


@dataclass
class Side:
    service: Service
    commit: str
    folder: Path
    client: httpx.Client
    recording: bytes
    idle: dict[str, float] = field(default_factory=dict)
    """CPU seconds of a second without requests, by process and kind of thread."""

    def post(self) -> float:
        began_s = time.perf_counter()
        answer = self.client.post("/graph", files={"file": self.recording}, data={"seed": "7"}, headers={"Accept": "image/png"})
        answer.raise_for_status()
        if len(answer.content) != 60_000:
            raise RuntimeError(f"a picture of {len(answer.content)} bytes instead of 60000")
        return (time.perf_counter() - began_s) * 1000


def spoken() -> bytes:
    """Return a WAV of speech, 10 s of 16 kHz int16: 320 KB."""
    audio = np.concatenate([decode(one, 60) for one in recordings(8)])[: RECORDING_S * 16_000]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(audio.tobytes())
    return buffer.getvalue()


@contextlib.contextmanager
def side(checkout: Path, recording: bytes, settings: Sequence[str] = ()) -> Iterator[Side]:
    """Serve a copy of the checkout, whose models sleep. `settings`: further environment variables, as NAME=VALUE."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for package in ("graphs", "deployments"):
            shutil.copytree(checkout / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for model in (folder / "deployments").glob("*/repository/*/1/model.py"):
            model.write_text(f"SLEEPS_S = {SLEEPS_S!r}\n{MODEL}")
        config = yaml.safe_load((folder / "graphs" / "local.yaml").read_text())
        port = config["http_options"]["port"] = free_port()
        (folder / "serve.yaml").write_text(yaml.safe_dump(config))
        ours = {"PYTHONPATH": str(folder), "XDG_STATE_HOME": str(folder)} | dict(one.split("=", 1) for one in settings)
        command = [str(BINARIES / "serve"), "run", "--address", "local", str(folder / "serve.yaml")]
        separate = httpx.Limits(max_keepalive_connections=0)
        with (
            running(command, variables(folder) | ours, port, folder, "/readyz", folder) as service,
            httpx.Client(base_url=service.url, timeout=120, limits=separate) as client,
        ):
            yield Side(service, commit(checkout), folder, client, recording)


def named(root: int) -> dict[int, str]:
    """Return each process of the service by its part in a request; those of Ray itself are told by their program."""
    found = {process.pid: name for name, process in roles(root).items()}
    for process in tree(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = process.name()
            if process.pid not in found:
                found[process.pid] = "controller" if title.startswith("ray::ServeController") else "Ray's own"
    return found


def cpu_ns(root: int) -> dict[str, int]:
    """Return the CPU time of every thread of the service, summed by process and kind of thread."""
    found: Counter[str] = Counter()
    for pid, name in named(root).items():
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                thread = (task / "comm").read_text().strip()
                found[f"{name}: {kind(name, thread)}"] += int((task / "schedstat").read_text().split()[0])
    return dict(found)


def all_ns(root: int) -> int:
    """Return the CPU time of the whole service as the kernel sums it, ended threads and ended children too: what the parts are held to."""
    whole_s = 0.0
    for process in tree(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            whole_s += sum(process.cpu_times()[:4])
    return int(whole_s * 1e9)


def kind(process: str, thread: str) -> str:
    """Return the kind of a thread, by its name; those of a stub have the name of its program, and are Python's."""
    if thread.startswith(NATIVE):
        return "Ray's threads"
    if process == "Ray's own":
        return "other threads"
    return "Triton's threads" if thread.startswith("triton") and not process.startswith("stub") else "Python"


def turn(one: Side, requests: int, at_once: int = 1) -> tuple[dict[str, float], list[float]]:
    """Return CPU ms of a request by process and kind of thread, less what idling takes, and each request's wall time in ms."""
    before, began_s = cpu_ns(one.service.process.pid), time.perf_counter()
    with ThreadPoolExecutor(at_once) as clients:
        took_ms = list(clients.map(lambda _: one.post(), range(requests)))
    took_s, after = time.perf_counter() - began_s, cpu_ns(one.service.process.pid)
    used = {name: (after[name] - before.get(name, 0)) / 1e9 - one.idle.get(name, 0.0) * took_s for name in after}
    return {name: seconds * 1000 / requests for name, seconds in used.items()}, took_ms


def totals(one: Side) -> tuple[int, int]:
    """Return the CPU time so far of the threads that are told apart, and of the whole service."""
    root = one.service.process.pid
    return sum(cpu_ns(root).values()), all_ns(root)


def share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the part of the whole's CPU time that the parts have."""
    return (after[0] - before[0]) / (after[1] - before[1])


def idle(one: Side) -> dict[str, float]:
    before = cpu_ns(one.service.process.pid)
    time.sleep(IDLE_S)
    return {name: (value - before.get(name, 0)) / 1e9 / IDLE_S for name, value in cpu_ns(one.service.process.pid).items()}


@dataclass(frozen=True)
class Profile:
    """Shares of the samples of one process' Python threads."""

    hops: Mapping[str, float]
    functions: Mapping[str, float]
    """Of the function that ran, without those that it called: the first TOP."""


def profile(one: Side) -> dict[str, Profile]:
    """Sample the processes on a request's path while requests come, and return what each ran."""
    program = BINARIES / "py-spy"
    if not program.exists():
        console.print("py-spy is not installed (pip install py-spy), so the Python threads are not divided.")
        return {}
    processes = {
        name: pid for pid, name in named(one.service.process.pid).items() if name not in ("Ray's own", "decode template")
    }
    files = {name: one.folder / f"{number}.raw" for number, name in enumerate(processes)}
    command = [
        str(program),
        "record",
        "--nonblocking",
        "--rate",
        "250",
        "--duration",
        str(PROFILED_S),
        "--format",
        "raw",
        "--nolineno",
    ]
    recorders = [
        subprocess.Popen(
            [*command, "--output", str(files[name]), "--pid", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for name, pid in processes.items()
    ]
    while any(recorder.poll() is None for recorder in recorders):
        one.post()
    return {name: profiled(file.read_text()) for name, file in files.items() if file.exists()}


def profiled(samples: str) -> Profile:
    """Return the shares in the samples of one process, as py-spy writes them: frames from the root, and a count."""
    hops: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        hops[hop(frames)] += int(count)
        functions[frames[-1]] += int(count)
    whole = hops.total() or 1
    return Profile(*({name: count / whole for name, count in one.most_common(TOP)} for one in (hops, functions)))


def hop(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for name, parts in HOPS.items():
            if any(part in frame for part in parts):
                return name
    return "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, nargs="?", help="a checkout of an old commit, such as a worktree")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an environment variable of the new side alone"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=20, help="to each side in a round")
    arguments = parser.parse_args()
    others = Others()
    recording = spoken()
    checkouts = {"new": ROOT} | ({"old": arguments.old.resolve()} if arguments.old else {})
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, checkout in checkouts.items():
            with console.status(f"Starting {name} ..."):
                sides[name] = stack.enter_context(side(checkout, recording, arguments.set if name == "new" else ()))
        for one in sides.values():
            for _ in track(range(WARM_UP), "Warming up", console=console):
                one.post()
        for one in sides.values():
            with console.status("Idle ..."):
                one.idle = idle(one)
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        loaded: dict[str, list[float]] = {name: [] for name in sides}
        walls: dict[str, list[float]] = {name: [] for name in sides}
        began = {name: totals(one) for name, one in sides.items()}
        for _ in track(range(arguments.rounds), "Rounds", console=console):
            turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
            for number in range(TURNS):
                for name in list(sides)[:: 1 if number % 2 else -1]:
                    cost, took_ms = turn(sides[name], max(1, arguments.requests // TURNS))
                    turns[name].append(cost)
                    walls[name] += took_ms
            for name in sides:
                keys = {key for one in turns[name] for key in one}
                costs[name].append({key: statistics.fmean(one.get(key, 0.0) for one in turns[name]) for key in keys})
            wholes: dict[str, list[float]] = {name: [] for name in sides}
            for names in (list(sides), list(sides)[::-1]):
                for name in names:
                    wholes[name].append(sum(turn(sides[name], arguments.requests, AT_ONCE)[0].values()))
            for name in sides:
                loaded[name].append(statistics.fmean(wholes[name]))
        counted = {name: share(began[name], totals(one)) for name, one in sides.items()}
        profiles = {name: profile(one) for name, one in sides.items()}
        idles = {name: sum(one.idle.values()) * 1000 for name, one in sides.items()}
        report(sides, costs, loaded, walls, profiles, idles, counted, others)


def report(
    sides: Mapping[str, Side],
    costs: Mapping[str, Sequence[Mapping[str, float]]],
    loaded: Mapping[str, Sequence[float]],
    walls: Mapping[str, Sequence[float]],
    profiles: Mapping[str, Mapping[str, Profile]],
    idles: Mapping[str, float],
    counted: Mapping[str, float],
    others: Others,
) -> None:
    """Print the table, and store it with a drawing."""
    result: dict[str, Any] = {}
    for name, one in sides.items():
        keys = sorted({key for cost in costs[name] for key in cost})
        medians = {key: statistics.median(cost.get(key, 0.0) for cost in costs[name]) for key in keys}
        whole = [sum(cost.values()) for cost in costs[name]]
        result[name] = {
            "commit": one.commit,
            "cpu_ms": dict(sorted(medians.items(), key=lambda item: -item[1])),
            "whole_ms": statistics.median(whole),
            "rounds_ms": whole,
            "whole_ms_at_once": statistics.median(loaded[name]),
            "rounds_ms_at_once": list(loaded[name]),
            "idle_ms_per_s": idles[name],
            "p50_ms": statistics.median(walls[name]),
            "counted": counted[name],
            "profile": {process: asdict(found) for process, found in profiles[name].items()},
        }
        table = Table(f"{name}: {one.commit}", "CPU-ms", "of it", title=f"{result[name]['whole_ms']:.1f} CPU-ms a request")
        for key, value in result[name]["cpu_ms"].items():
            process, _, threads = key.partition(": ")
            parts = profiles[name][process].hops if threads == "Python" and process in profiles[name] else {}
            of_it = ", ".join(f"{part} {share * value:.1f}" for part, share in parts.items() if share * value >= 0.05)
            table.add_row(key, f"{value:.2f}", of_it)
        console.print(table)
        for process, found in profiles[name].items():
            console.print(
                f"{process}: " + ", ".join(f"{function} {share:.0%}" for function, share in list(found.functions.items())[:6])
            )
        console.print(
            f"{AT_ONCE} clients at once: {result[name]['whole_ms_at_once']:.1f} CPU-ms a request. "
            f"One: p50 {result[name]['p50_ms']:.0f} ms (goal: at most {GOALS['p50_ms']:.0f}); idle {idles[name]:.0f} CPU-ms a second; "
            f"the parts are {counted[name]:.1%} of the whole"
        )
    if "old" in result:
        for key, clients in (("", "one client"), ("_at_once", f"{AT_ONCE} clients at once")):
            found = result[f"ratio{key}"] = compared(result["old"][f"rounds_ms{key}"], result["new"][f"rounds_ms{key}"])
            console.print(
                f"new / old, {clients}: {found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f}), "
                f"goal at most {GOALS['new / old']}"
            )
    result["circumstances"] = f"{circumstances()}; {others.cores:.1f} cores busy with other things"
    console.print(result["circumstances"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "hops.json").write_text(json.dumps(result, indent=1) + "\n")
    draw({name: by_process(result[name]["cpu_ms"]) for name in sides})


def draw(processes: Mapping[str, Mapping[str, float]]) -> None:
    """Draw the CPU of each side's processes, the old side first."""
    shown = sorted(processes["new"], key=lambda one: -processes["new"][one])[:9]
    names = list(processes)[::-1]
    bars = [
        chart.Bar(re.sub("(replica|stub) of (.*)", r"\2 \1", one), max(0.0, processes[name].get(one, 0.0)), names.index(name))
        for one in shown
        for name in names
    ]
    chart.draw(RESULTS / "hops.png", names, [chart.Bars("CPU ms of a request, without the models", bars)])


def by_process(cpu_ms: Mapping[str, float]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for key, value in cpu_ms.items():
        found[key.partition(": ")[0]] += value
    return dict(found)


if __name__ == "__main__":
    main()
