"""CPU of a request's trace: `python -m benchmarks.tracing [--before FOLDER]`.

Two services at a time, as in `benchmarks.commits`, each by `sonograph serve` over models of known cost in real Triton servers
(testing/known_cost), so that all that makes a trace takes part: spans of the ingress, the replica, Triton and the model. `on` keeps all
traces and sends all to a collector, which this process stands in for and whose CPU is not counted; `off` does neither; `before` is a
checkout of a commit without traces.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.commits import ANSWERS, AT_ONCE, Side, compare, console, side, warm_up
from benchmarks.measure import commit, record
from benchmarks.services import BINARIES, running, variables
from testing.collector import over_http
from testing.service import ROOT, Service, config, free_port

RESULTS = Path(__file__).with_name("results")
OFF = {"tracing": {"max_traces": 0}}
GOALS = {("before", "off"): 1.03, ("off", "on"): 1.05}
"""The upper end of the interval of the second's CPU to the first's."""


@contextlib.contextmanager
def serving(checkout: Path, settings: dict[str, Any]) -> Iterator[Service]:
    port = free_port()
    content = yaml.safe_load(config(port, **settings))
    content["applications"][0]["import_path"] = "testing.known_cost.app:app"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sonograph.yaml"
        path.write_text(yaml.safe_dump(content))
        ours = {"XDG_STATE_HOME": folder, "PYTHONPATH": str(checkout)}
        command = [str(BINARIES / "sonograph"), "serve", "--config", str(path), "--port", str(port)]
        with running(command, variables(checkout) | ours, port, Path(folder), "/readyz", checkout) as service:
            yield service


def measure(
    pair: tuple[str, str], checkouts: dict[str, Path], answers: list[str], at_once: list[int], requests: int, pairs: int
) -> dict[str, Any]:
    """Compare the two sides of `pair` by each kind of answer."""
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(over_http())
        on = {"tracing": {"endpoint": collector.url, "sample_ratio": 1.0}}
        settings = {"before": {}, "off": OFF, "on": on}
        sides: dict[str, Side] = {}
        for role, name in zip(("old", "new"), pair, strict=True):
            with console.status(f"Starting {name} ..."):
                service = stack.enter_context(serving(checkouts[name], settings[name]))
            asyncio.run(warm_up(service, answers))
            sides[role] = side(name, service, commit(checkouts[name]))
        found = {
            f"{answer}, {count} at once": compare(sides, answer, count, requests, pairs, GOALS[pair])
            for count in at_once
            for answer in answers
        }
        return {**found, "exports": len(collector.requests)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of a commit without traces")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--requests", type=int, default=32, help="to each side in a pair")
    parser.add_argument("--answers", nargs="*", choices=ANSWERS, default=list(ANSWERS))
    parser.add_argument("--at-once", nargs="*", type=int, default=list(AT_ONCE))
    arguments = parser.parse_args()
    checkouts = {"off": ROOT, "on": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    pairs = {f"{new} / {old}": (old, new) for old, new in GOALS if {old, new} <= checkouts.keys()}
    measured = (arguments.answers, arguments.at_once, arguments.requests)
    parts = {name: partial(measure, pair, checkouts, *measured) for name, pair in pairs.items()}
    record(RESULTS / "tracing.json", parts, parts, arguments.pairs, console)


if __name__ == "__main__":
    main()
