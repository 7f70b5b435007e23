"""Ray's metrics of a node, and the service's own, as Prometheus scrapes them from each node's port.

Ray counts of a replica its own process alone, without the one that holds the model (Triton's stub): the figures of a node are those of
its replicas only where nothing else runs there, as in a pod. They have no number of threads.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from graphs.core.metrics import INGRESS
from kuberay.manifest.foreign_metrics import NODE_CPU, NODE_MEMORY_TOTAL, NODE_MEMORY_USED
from sonograph.errors import Failed
from sonograph.rightsize.amounts import MIB, MOST_BYTES, MOST_CPUS
from sonograph.rightsize.bounded import SILENCE_S, Bounded
from sonograph.rightsize.used import Sample
from sonograph.terminal import printable

NODE_CPUS = "ray_node_cpu_count"
GPU_USE, GPU_MEMORY_USED = "ray_node_gpus_utilization", "ray_node_gram_used"
"""Percent and MiB of each GPU of a node."""
REQUESTS = "ray_sonograph_requests_total"
NAMES = (NODE_CPU, NODE_CPUS, NODE_MEMORY_USED, NODE_MEMORY_TOTAL, GPU_USE, GPU_MEMORY_USED, REQUESTS)
GREATEST = {
    NODE_CPU: 100.0 * MOST_CPUS,
    NODE_CPUS: MOST_CPUS,
    NODE_MEMORY_USED: MOST_BYTES,
    NODE_MEMORY_TOTAL: MOST_BYTES,
    GPU_USE: 100.0,
    GPU_MEMORY_USED: MOST_BYTES / MIB,
    REQUESTS: 2.0**53,
}
"""Greatest values that can be true."""
TARGET = re.compile(r"[\w.-]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}")
SIDE_BY_SIDE = 16
MOST_TARGETS = 2_000


@dataclass(frozen=True)
class Node:
    """Figures of one node at one time."""

    cpus: float
    """CPUs in use."""
    of_cpus: float
    memory_bytes: float
    of_memory_bytes: float | None
    gpu_percent: float | None = None
    gpu_bytes: float | None = None

    @property
    def sample(self) -> Sample:
        return Sample(self.cpus, self.memory_bytes, (), self.gpu_percent, self.gpu_bytes)


@dataclass(frozen=True)
class Scrape:
    """Metrics that all nodes export at one time."""

    nodes: Mapping[str, Node]
    """By IP address."""
    requests: float | None
    """Requests that entered the service so far; None where no ingress exports it."""
    dropped: int
    """Figures that are no numbers, or out of bounds."""
    unreachable: tuple[str, ...]
    """A sentence on each target that does not answer."""


class Metrics:
    """The metrics ports of a cluster's nodes."""

    def __init__(self, targets: Sequence[str], transport: httpx.BaseTransport | None = None) -> None:
        self._targets = [one for one in targets[:MOST_TARGETS] if TARGET.fullmatch(one)]
        self._client = httpx.Client(timeout=SILENCE_S, transport=Bounded(transport), trust_env=False)

    def scrape(self) -> Scrape:
        with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
            found = list(threads.map(self._page, self._targets))
        return read([page for page, _ in found], tuple(problem for _, problem in found if problem))

    def close(self) -> None:
        self._client.close()

    def _page(self, target: str) -> tuple[str, str]:
        """The lines that are read here, and a sentence where there are none."""
        try:
            answer = self._client.get(f"http://{target}/metrics")
        except (httpx.HTTPError, httpx.InvalidURL, Failed) as error:
            return "", f"the metrics at {target} do not answer: {printable(str(error)) or type(error).__name__}"
        if answer.status_code != 200:
            return "", f"the metrics at {target} answer {answer.status_code}"
        return "\n".join(line for line in answer.text.splitlines() if line.startswith(NAMES)), ""


def targets(discovered: Any) -> list[str]:
    """The addresses in Ray's answer to `GET /api/prometheus/sd`; none in an answer of another form."""
    entries = discovered if isinstance(discovered, list) else []
    listed = [one.get("targets") for one in entries if isinstance(one, dict)]
    return [target for one in listed if isinstance(one, list) for target in one if isinstance(target, str)]


def read(pages: Iterable[str], unreachable: tuple[str, ...] = ()) -> Scrape:
    """The figures of pages in Prometheus' format. A line that is none, or whose value cannot be true, is dropped and counted."""
    nodes, requests, dropped = dict[str, Node](), None, 0
    for page in pages:
        found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for name, labels, value in _samples(page):
            if not math.isfinite(value) or not 0 <= value <= GREATEST.get(name, 0.0):
                dropped += 1
            elif name == REQUESTS:
                requests = (requests or 0.0) + (value if labels.get("stage") == INGRESS else 0.0)
            elif name in (GPU_USE, GPU_MEMORY_USED):  # one series for each GPU
                found[labels.get("ip", "")][name] += value
            else:
                found[labels.get("ip", "")][name] = value
        whole = {ip: _node(one) for ip, one in found.items() if ip and {NODE_CPU, NODE_CPUS, NODE_MEMORY_USED} <= one.keys()}
        nodes = {**whole, **nodes}  # two nodes of one address are one machine, and each has the figures of both
    return Scrape(nodes, requests, dropped, unreachable)


def _node(one: Mapping[str, float]) -> Node:
    gpu_mib = one.get(GPU_MEMORY_USED)
    return Node(
        one[NODE_CPU] / 100 * one[NODE_CPUS],
        one[NODE_CPUS],
        one[NODE_MEMORY_USED],
        one.get(NODE_MEMORY_TOTAL),
        one.get(GPU_USE),
        None if gpu_mib is None else gpu_mib * MIB,
    )


def _samples(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield name, labels and value of each line that is one of NAMES; a value of nan for one that cannot be read."""
    from prometheus_client.parser import text_string_to_metric_families

    for line in text.splitlines():
        if not line.startswith(NAMES):
            continue
        try:
            samples = [one for family in text_string_to_metric_families(f"{line}\n") for one in family.samples]
        except (ValueError, IndexError, KeyError):
            yield "", {}, math.nan
        else:
            yield from ((one.name, one.labels, float(one.value)) for one in samples if one.name in NAMES)
