"""Use of processes on this machine: real ones, with threads that compute."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sonograph.rightsize.processes import Tree, peak_bytes, replica
from sonograph.rightsize.used import Sample
from sonograph.threads import thread_times

pytestmark = pytest.mark.slow

WAIT_S = 120
LITTLE = 1e-4
"""Part of the time that any thread gets, which has work, on a machine that is full."""
TITLE = "ray::ServeReplica:sonograph:whisper"
CHILD = "data = bytearray(64 * 2**20); print('grown', flush=True); input()"
COMPUTE = """
import subprocess, sys, threading, zlib
subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
data = bytes(32 * 2**20)
def compute():
    while True:
        zlib.crc32(data)  # without Python's lock
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def running(*command: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the context ends, also by a failed assertion."""
    with subprocess.Popen(command, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def computing() -> Iterator[psutil.Process]:
    """Run a process of three threads that compute, and a child."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(sys.executable, "-c", COMPUTE, CHILD, **streams) as process:
        assert process.stdout
        assert {process.stdout.readline().strip() for _ in range(2)} == {"ready", "grown"}
        found = psutil.Process(process.pid)
        children = found.children()
        yield found
        for one in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def sampled(tree: Tree, is_as_expected: Callable[[Sample], bool]) -> Sample:
    """The first sample of five looks that is as expected: a machine that is full starves the processes for a while."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        for _ in range(5):
            time.sleep(0.1)
            tree.look()
        sample = tree.sample()
        assert sample
        if is_as_expected(sample):
            return sample
        assert time.monotonic() < deadline_s, sample


def test_threads_memory_and_cpu_of_a_tree_are_seen(computing: psutil.Process) -> None:
    tree = Tree(computing, at_work=LITTLE)
    sample = sampled(tree, lambda one: sorted(one.threads)[2] == 3 and one.cpus > 0)
    assert sample.memory_bytes
    assert sample.memory_bytes > computing.memory_info().rss + 60 * 2**20, "the child's memory counts"
    assert tree.peak_bytes() >= sample.memory_bytes


def test_a_tree_whose_process_has_ended_has_no_sample(computing: psutil.Process) -> None:
    tree = Tree(computing)
    family = [*computing.children(), computing]
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=30)
    assert tree.sample() is None
    assert tree.peak_bytes() == 0


def test_a_process_is_a_replica_by_its_title_alone() -> None:
    with running("bash", "-c", f'exec -a "{TITLE}" sleep 600') as process:
        deadline_s = time.monotonic() + WAIT_S
        while replica(process.pid, "sonograph", "whisper") is None:
            assert time.monotonic() < deadline_s
        assert replica(process.pid, "sonograph", "diffusion") is None
        assert replica(process.pid, "sonograph", "whispe") is None
        assert replica(process.pid, "other", "whisper") is None
    for pid in (None, 0, -1, 2**40, 1):
        assert replica(pid, "sonograph", "whisper") is None


def test_threads_that_only_wake_are_not_at_work() -> None:
    program = """
import threading, time
for _ in range(4):
    threading.Thread(target=lambda: [time.sleep(0.02) for _ in range(10**6)]).start()
"""
    with running(sys.executable, "-c", program) as process:
        deadline_s = time.monotonic() + WAIT_S
        while len(thread_times(process.pid)) < 5:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        tree = Tree(psutil.Process(process.pid))
        for _ in range(3):
            time.sleep(0.2)
            tree.look()
        sample = tree.sample()
        assert sample
        assert min(sample.threads) == 0
        assert peak_bytes(process.pid) > 2**20
    assert (thread_times(process.pid), peak_bytes(process.pid)) == ({}, 0)


def test_a_kernel_without_statistics_tells_what_a_thread_ran_and_not_what_it_waited(tmp_path: Path) -> None:
    for name, files in {
        "8": {"stat": "8 (a) R b) S" + " 0" * 10 + " 150 50 0 0"},
        "9": {"schedstat": "2000000000 500000000 7"},
        "x": {},
    }.items():
        (tmp_path / "7" / "task" / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / "7" / "task" / name / file).write_text(text)
    assert thread_times(7, tmp_path) == {"8": (200 / os.sysconf("SC_CLK_TCK"), 0), "9": (2, 0.5)}


def test_threads_that_share_one_cpu_wait_for_the_others(computing: psutil.Process) -> None:
    """Three threads on one CPU use one, and would have used three."""
    for thread in thread_times(computing.pid):
        os.sched_setaffinity(int(thread), {min(os.sched_getaffinity(0))})
    sample = sampled(Tree(computing, at_work=LITTLE), lambda one: one.waited_cpus > 1.5 and sorted(one.threads)[2] == 3)
    assert sample.cpus < 1.5
