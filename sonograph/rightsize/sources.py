"""Where the figures come from: a running service by its address, Prometheus, or the results of a comparison; as subjects and nodes."""

import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sonograph.dashboard import Dashboard, DashboardError, address
from sonograph.errors import Failed
from sonograph.keys import api_key, ray_token
from sonograph.rightsize import results
from sonograph.rightsize.amounts import counted
from sonograph.rightsize.bounded import Bounded
from sonograph.rightsize.metrics import Metrics, targets
from sonograph.rightsize.packing import NodeSize
from sonograph.rightsize.prometheus import Prometheus
from sonograph.rightsize.replicas import Replica, places, replicas
from sonograph.rightsize.sampler import Sampler
from sonograph.rightsize.subjects import grouped
from sonograph.rightsize.used import Subject
from sonograph.service import Service

type Report = Callable[[float], None]
type Bar = Callable[[str, float], AbstractContextManager[Report]]
"""A progress bar of a description and the seconds that it takes."""


@dataclass(frozen=True)
class Options:
    """How a running service is reached."""

    url: str
    key_file: Path | None
    dashboard: str | None
    token_file: Path


@dataclass(frozen=True)
class Found:
    """Findings: the subjects, the nodes, and sentences about both."""

    subjects: list[Subject]
    places: list[NodeSize]
    notes: list[str]
    source: str
    seconds: float | None = None
    requests: float | None = None
    shares_pod: bool = False
    """Whether the models share a pod, as in the profile one-gpu."""

    @property
    def is_idle(self) -> bool:
        seen = [one for one in self.subjects if one.samples]
        return bool(seen) and all(one.is_idle for one in seen)


def of_results(folder: Path) -> Found:
    """Results of `sonograph compare`. Raises Failed."""
    measured = results.outcomes(folder)
    subjects, notes = results.subjects(measured)
    names = results.nodes(measured)
    here = [
        NodeSize(name, float(psutil.cpu_count() or 1), float(psutil.virtual_memory().total))
        for name in names
        if name == socket.gethostname()
    ]
    return Found(subjects, here, notes, f"{folder}: {len(measured)} results")


def of_service(options: Options, seconds: float, bar: Bar) -> Found:
    """Samples of a running service for so many seconds. Raises Failed and DashboardError."""
    topology, named = _asked(options)
    url = address(options.dashboard, named)
    with Dashboard(url, ray_token(options.token_file), Bounded()) as dashboard:
        details, rows = _of_ray(dashboard.details), _of_ray(dashboard.nodes)
        addresses, unknown = _targets(dashboard)
        found, wanted, missing = replicas(topology, details)
        if not found:
            raise Failed(f"no replica of {options.url} runs: {'; '.join(missing) or 'the service has none'}")
        metrics = Metrics(addresses) if addresses else None
        try:
            sampler = Sampler(found, metrics)
            with bar(f"Sampling {len(found)} replicas", seconds) as report:
                sampler.run(seconds, report)
        finally:
            if metrics:
                metrics.close()
    seen, scrape = sampler.subjects(wanted), sampler.last
    notes = [*missing, *sampler.ended, *unknown]
    if scrape and any(not one.samples for one in seen):
        notes += scrape.unreachable
    if scrape and scrape.dropped:
        notes.append(f"{counted(scrape.dropped, 'figure')} of the metrics cannot be true, and not among these")
    around = places(rows, sampler.nodes, sampler.here)
    return Found(seen, around, notes, options.url, seconds, sampler.requests, _shares_pod(found))


def of_prometheus(options: Options, url: str, window_s: float, bar: Bar) -> Found:
    """Samples of a running service's nodes over the window, from Prometheus. Raises Failed."""
    topology, _ = _asked(options)
    found, wanted, missing = replicas(topology, {})
    prometheus = Prometheus(url)
    with bar("Asking Prometheus", 1) as report:
        samples = prometheus.nodes([one.address for one in found], window_s)
        requests = prometheus.requests(str(topology.get("application")), window_s)
        report(1)
    if not samples:
        raise Failed(
            f"Prometheus at {url} has no series of Ray's nodes {', '.join({one.address for one in found})}: does it scrape them?"
        )
    subjects = grouped(found, {}, {}, samples, wanted)
    return Found(subjects, [], missing, url, window_s, requests, _shares_pod(found))


def _asked(options: Options) -> tuple[dict[str, Any], str | None]:
    """The answer of GET /graph, and the address of Ray's dashboard as the service names it."""
    with Service(options.url, api_key(options.key_file), transport=Bounded()) as service:
        named = service.all().get("serve_api")
        return service.topology(), named if isinstance(named, str) else None


def _of_ray(read: Callable[[], Any]) -> Any:
    """Answer of the dashboard. Raises Failed for another form of answer."""
    try:
        return read()
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(
            f"Ray's dashboard answers in another form than Ray 2.60's ({type(error).__name__} {error}): is it its address?"
        ) from error


def _targets(dashboard: Dashboard) -> tuple[list[str], list[str]]:
    """Addresses of the nodes' metrics, and a sentence where they are unknown."""
    try:
        found = targets(dashboard.discovered())
    except (DashboardError, ValueError, Failed):
        found = []
    return found, [] if found else [
        "Ray's dashboard names no metrics ports: requests are not counted, and other machines are not seen"
    ]


def _shares_pod(found: Sequence[Replica]) -> bool:
    """Whether a node that is a pod holds several models."""
    stages = defaultdict[str, set[str]](set)
    for one in found:
        if one.is_model and one.is_a_pod:
            stages[one.address].add(one.deployment)
    return any(len(names) > 1 for names in stages.values())
