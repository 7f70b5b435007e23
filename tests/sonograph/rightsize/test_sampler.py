"""A sampler of replicas: on this machine, by metrics, and of what ends meanwhile."""

import subprocess

import httpx
import psutil

from sonograph.rightsize.metrics import Metrics
from sonograph.rightsize.sampler import Sampler
from sonograph.rightsize.used import LEAST_BUSY
from tests.sonograph.rightsize.figures import MIB
from tests.sonograph.rightsize.figures import running as one


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.01)


def test_a_sampler_scrapes_other_machines_and_counts_requests() -> None:
    pages = 0

    def page(_: httpx.Request) -> httpx.Response:
        nonlocal pages
        pages += 1
        label = '{ip="192.0.2.1"}'
        lines = [f"ray_node_cpu_utilization{label} 50", f"ray_node_cpu_count{label} 2", f"ray_node_mem_used{label} {500 * MIB}"]
        return httpx.Response(200, text="\n".join([*lines, f'ray_sonograph_requests_total{{stage="ingress"}} {pages}', ""]))

    clock, reported = Clock(), list[float]()
    metrics = Metrics(["192.0.2.1:8080"], httpx.MockTransport(page))
    sampler = Sampler([one("whisper", "a", "192.0.2.1")], metrics, lambda *_: None, clock, clock.sleep)
    sampler.run(10, reported.append)
    (whisper,) = sampler.subjects({"whisper": 1})
    assert whisper.cpus
    assert whisper.cpus.max == 1
    assert len(whisper.samples) == pages - 1
    assert sampler.requests == pages - 1
    assert reported[-1] == 10
    assert reported == sorted(reported)


def test_a_full_machine_has_enough_samples_all_the_same_and_a_scrape_that_lacks_a_node_forgets_none() -> None:
    pages = iter(['{ip="192.0.2.1"}', '{ip="192.0.2.7"}', *['{ip="192.0.2.1"}'] * 99])

    def page(_: httpx.Request) -> httpx.Response:
        label = next(pages)
        lines = (f"ray_node_{name}{label} 50" for name in ("cpu_utilization", "cpu_count", "mem_used"))
        return httpx.Response(200, text="\n".join([*lines, ""]))

    clock = Clock()
    metrics = Metrics(["192.0.2.1:8080"], httpx.MockTransport(page))
    sampler = Sampler([one("whisper", "a", "192.0.2.1")], metrics, lambda *_: None, clock, lambda _: clock.sleep(60))
    sampler.run(10, lambda _: None)
    assert len(sampler.subjects({})[0].samples) >= LEAST_BUSY
    assert set(sampler.nodes) == {"192.0.2.1", "192.0.2.7"}


def test_a_sampler_without_metrics_and_processes_has_no_samples() -> None:
    clock = Clock()
    sampler = Sampler([one("whisper", "a", "192.0.2.1")], None, lambda *_: None, clock, clock.sleep)
    sampler.run(5, lambda _: None)
    assert sampler.requests is None
    assert sampler.subjects({})[0].samples == []


def test_a_replica_that_ends_meanwhile_keeps_its_samples_and_is_named() -> None:
    clock = Clock()
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            sampler = Sampler([one("whisper", "a", "here")], None, lambda *_: psutil.Process(process.pid), clock, clock.sleep)

            def end(done_s: float) -> None:
                if done_s > 5 and process.poll() is None:
                    process.kill()
                    process.wait()

            sampler.run(10, end)
        finally:
            process.kill()
    (whisper,) = sampler.subjects({})
    assert 4 <= len(whisper.samples) <= 6
    assert sampler.ended == ["the replica a ended while it was measured: its figures are those until then"]
