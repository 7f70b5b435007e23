"""Samples of a running service: of each replica on this machine from its processes, of the others from the metrics of their nodes."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import psutil

from sonograph.rightsize.metrics import Metrics, Scrape
from sonograph.rightsize.processes import LOOKS_S, Tree, replica
from sonograph.rightsize.replicas import Replica
from sonograph.rightsize.subjects import grouped
from sonograph.rightsize.used import LEAST_BUSY, Sample, Subject
from sonograph.terminal import printable

LEAST_SAMPLES = 10
"""Samples of the shortest time."""
SAMPLE_S = 1.0
SCRAPE_S = 2.0
"""Time between two scrapes; Ray itself renews the figures every 10 s."""


class Sampler:
    """Samples of replicas. What neither this machine nor a metrics port shows has none."""

    def __init__(
        self,
        found: Sequence[Replica],
        metrics: Metrics | None,
        find: Callable[[int | None, str, str], psutil.Process | None] = replica,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.replicas = found
        self._metrics, self._clock, self._sleep = metrics, clock, sleep
        processes = {one.id: find(one.pid, one.application, one.deployment) for one in found}
        self._trees = {id: Tree(process) for id, process in processes.items() if process is not None}
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        self._of_nodes: dict[str, list[Sample]] = defaultdict(list)
        self._peaks: dict[str, float] = {}
        self._ended: dict[str, None] = {}
        self._count = 0
        self.first: Scrape | None = metrics.scrape() if metrics else None
        self.last = self.first
        self.nodes = dict(self.first.nodes) if self.first else {}
        """The last figures of each node: a scrape may lack some."""

    @property
    def requests(self) -> float | None:
        """Requests that entered the service meanwhile, by counters that Ray renews every 10 s; None where they are not seen."""
        if self.first is None or self.last is None or self.first.requests is None or self.last.requests is None:
            return None
        return max(0.0, self.last.requests - self.first.requests)

    def run(self, seconds: float, report: Callable[[float], None]) -> None:
        """Take samples for so many seconds. `report`: called with the seconds so far."""
        began_s = self._clock()
        end_s = began_s + seconds
        scrapes = len(self._trees) < len(self.replicas) or any(one.requested.gpus for one in self.replicas)
        each_s, scraped_each_s = (min(one, seconds / LEAST_SAMPLES) for one in (SAMPLE_S, SCRAPE_S))
        next_s, scrape_s = began_s + each_s, began_s + scraped_each_s
        while (now_s := self._clock()) < end_s:
            self._sleep(min(LOOKS_S, each_s, max(0.0, end_s - now_s)))
            now_s = self._clock()
            if now_s >= next_s:
                next_s = now_s + each_s
                self._sample()
            else:
                for tree in self._trees.values():
                    tree.look()
            if scrapes and now_s >= scrape_s:
                scrape_s = now_s + scraped_each_s
                self._scrape()
            report(min(seconds, now_s - began_s))
        for _ in range(LEAST_BUSY - self._count):  # a machine that is full has let few samples be taken
            self._sleep(each_s)
            self._sample()
            self._scrape()
        self._scrape()
        self._peaks = {id: tree.peak_bytes() for id, tree in self._trees.items()}

    def _sample(self) -> None:
        self._count += 1
        for tree in self._trees.values():
            tree.look()
        for id, tree in self._trees.items():
            one = tree.sample()
            if one is None:
                self._ended[id] = None
            else:
                self._samples[id].append(one)

    def _scrape(self) -> None:
        if self._metrics is None:
            return
        self.last = self._metrics.scrape()
        self.nodes |= self.last.nodes
        for address, node in self.last.nodes.items():
            self._of_nodes[address].append(node.sample)

    @property
    def here(self) -> set[str]:
        """Addresses of replicas that are on this machine."""
        return {one.address for one in self.replicas if one.id in self._trees}

    @property
    def ended(self) -> list[str]:
        """A sentence on each replica that ended meanwhile."""
        return [
            f"the replica {printable(id)} ended while it was measured: its figures are those until then" for id in self._ended
        ]

    def subjects(self, wanted: Mapping[str, int]) -> list[Subject]:
        """A subject for each stage, with its replicas where it has several; then each node whose replicas cannot be told apart."""
        return grouped(self.replicas, self._samples, self._peaks, self._of_nodes, wanted)
