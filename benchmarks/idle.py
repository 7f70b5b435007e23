"""CPU without a request: `python -m benchmarks.idle`.

This service, with everything but the models' engines, beside an empty Ray Serve with Serve's own defaults and as many replicas. Both are
sampled over the same seconds.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.commits import compared
from benchmarks.hops import by_process, cpu_ns, side, spoken
from benchmarks.measure import Others, circumstances
from benchmarks.services import BINARIES, running, without_rays
from testing.service import ROOT, Service, free_port

RESULTS = Path(__file__).with_name("results")
WARM_UP = 60
ROUND_S = 10.0
GOAL = 1.1
console = Console(width=150)


@contextlib.contextmanager
def empty() -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        application = {"name": "sonograph", "route_prefix": "/", "import_path": "benchmarks.peers.empty:app"}
        config = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}
        (folder / "serve.yaml").write_text(yaml.safe_dump(config))
        command = [str(BINARIES / "serve"), "run", "--address", "local", str(folder / "serve.yaml")]
        with running(command, without_rays() | {"PYTHONPATH": str(ROOT)}, port, folder, "/readyz", folder) as service:
            yield service


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    others = Others()
    with contextlib.ExitStack() as stack:
        with console.status("Starting both ..."):
            ours = stack.enter_context(side(ROOT, spoken()))
            services = {"Sonograph": ours.service, "empty": stack.enter_context(empty())}
        for _ in track(range(WARM_UP), "Warming up", console=console):
            ours.post()
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in services}
        for _ in track(range(rounds), "Rounds", console=console):
            before = {name: cpu_ns(service.process.pid) for name, service in services.items()}
            time.sleep(ROUND_S)
            for name, service in services.items():
                after = cpu_ns(service.process.pid)
                costs[name].append({key: (after[key] - before[name].get(key, 0)) / 1e6 / ROUND_S for key in after})
    whole = {name: [sum(cost.values()) for cost in costs[name]] for name in services}
    ratio = compared(whole["empty"], whole["Sonograph"])
    by_name = {
        name: by_process({key: statistics.median(cost.get(key, 0.0) for cost in costs[name]) for key in costs[name][0]})
        for name in services
    }
    table = Table("process", *services, title="CPU-ms a second, without a request")
    for process in sorted(by_name["Sonograph"], key=lambda one: -by_name["Sonograph"][one]):
        table.add_row(process, *(f"{by_name[name].get(process, 0.0):.1f}" for name in services))
    table.add_row("all", *(f"{statistics.median(whole[name]):.1f}" for name in services))
    console.print(table)
    console.print(f"Sonograph / empty: {ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), goal at most {GOAL}")
    noted = f"{circumstances()}; {others.cores:.1f} cores busy with other things"
    console.print(noted)
    result = {"rounds_ms_per_s": whole, "by_process": by_name, "ratio": ratio, "circumstances": noted}
    (RESULTS / "idle.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
