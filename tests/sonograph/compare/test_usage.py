"""CPU, threads and memory of this process."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sonograph.compare.usage import PeakMemory, Usage

pytestmark = pytest.mark.slow

BLOCK = b"x" * (1 << 22)


def compute(cpu_s: float) -> None:
    """Use so much CPU in this thread, without Python's lock."""
    began_s = time.thread_time()
    while time.thread_time() - began_s < cpu_s:
        hashlib.sha256(BLOCK).digest()


def test_the_cpu_of_all_threads_counts_and_waiting_does_not() -> None:
    with Usage(PeakMemory()) as usage:
        threads = [threading.Thread(target=compute, args=(0.3,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(1.0)
    assert 0.55 < usage.cpu_s < 1.0
    assert usage.wall_s > 1.25


def test_threads_that_work_at_once_are_counted_and_idle_ones_are_not() -> None:
    ended = threading.Event()
    idle = [threading.Thread(target=ended.wait) for _ in range(5)]
    for thread in idle:
        thread.start()
    found = []
    for count in (1, 4):
        with Usage(PeakMemory()) as usage:
            threads = [threading.Thread(target=compute, args=(0.3,)) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        found.append(usage)
    ended.set()
    assert [usage.threads for usage in found] == [1, 4]
    assert found[0].cores


def test_threads_that_work_one_after_the_other_are_one() -> None:
    """As where a library hands a computation to a thread of its own, and waits for it."""
    with Usage(PeakMemory()) as usage, ThreadPoolExecutor(1) as executor:
        for _ in range(6):
            compute(0.06)
            executor.submit(compute, 0.06).result()
    assert usage.threads == 1


def test_a_short_block_has_one_thread_and_its_core() -> None:
    with Usage(PeakMemory()) as usage:
        compute(0.005)
    assert usage.threads == 1
    assert len(usage.cores) >= 1


def test_the_highest_memory_is_that_since_the_task_began_also_once_it_is_free_again() -> None:
    before = np.ones(50 << 20, np.uint8)
    del before
    memory = PeakMemory()
    began_bytes = memory.most_bytes
    block = np.ones(100 << 20, np.uint8)
    del block
    most_bytes = memory.most_bytes
    assert 95 << 20 < most_bytes - began_bytes < 110 << 20
    assert PeakMemory().most_bytes < most_bytes - (95 << 20)


def test_where_the_kernels_count_cannot_be_set_back_memory_is_sampled(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").mkdir()
    (tmp_path / "statm").write_text("900 500 0")
    memory = PeakMemory(tmp_path)
    memory.sample()
    (tmp_path / "statm").write_text("900 300 0")
    assert memory.most_bytes == 500 * 4096
