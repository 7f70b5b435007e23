"""Whole runs on a real Ray with fake models: killed, interrupted, out of disk, with workers that die, on a cluster's nodes."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from sonograph.compare.measured import Measured
from sonograph.compare.store import NAME, read
from testing.service import ROOT
from tests.sonograph.compare.fakes import WORDS

pytestmark = [pytest.mark.slow, pytest.mark.serve]
MODELS = ["tiny.en", "base"]
TIMES = {"seconds", "median_s", "cpu_s", "real_time_factor", "peak_bytes", "threads", "cost", "on_front", "chosen"}
"""Columns of the summary that another run has otherwise, and what follows from them."""


@pytest.fixture(scope="module", autouse=True)
def temporary() -> Iterator[None]:
    """Remove Ray's files of runs that were killed."""
    with tempfile.TemporaryDirectory(prefix="sg-", dir="/tmp", ignore_cleanup_errors=True) as Driver.temporary:
        yield


class Driver:
    """Command over one folder of recordings, and what their models have computed."""

    temporary = "/tmp"
    """Folder of Ray's own; its path must be short."""

    def __init__(self, folder: Path, contents: list[str], slow_s: float = 0.0, **request: Any) -> None:
        self.folder = folder
        self.calls, self.out = folder / "calls", folder / "out"
        for place in (self.calls, folder / "models"):
            place.mkdir(parents=True)
        for content in contents:
            (self.calls / f"{content}.wav").write_text(content)
        given = {"recordings": [str(self.calls)], "models": MODELS, "out": str(self.out), **request}
        self._command = [
            sys.executable,
            "-m",
            "tests.sonograph.compare.driver",
            json.dumps(given),
            str(folder / "models"),
            str(slow_s),
        ]

    def start(self) -> subprocess.Popen[str]:
        env = {**os.environ, "COLUMNS": "120", "TMPDIR": self.temporary}
        return subprocess.Popen(
            self._command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def run(self) -> tuple[int, str]:
        process = self.start()
        printed, _ = process.communicate(timeout=300)
        return process.returncode, printed

    def kept(self) -> list[Measured]:
        return read(self.out) if (self.out / NAME).exists() else []

    def wait_for(self, process: subprocess.Popen[str], count: int) -> None:
        """Return once so many results are kept, or the run has ended."""
        while len(self.kept()) < count and process.poll() is None:
            time.sleep(0.02)

    def computed(self) -> Counter[tuple[str, str]]:
        """Computations by model and recording."""
        path = self.folder / "models" / "computed"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter((model, f"{content}.wav") for model, _, content in (line.partition(" ") for line in lines))

    def summary(self) -> list[dict[str, str]]:
        """The lines of summary.csv without times."""
        with (self.out / "summary.csv").open() as file:
            rows = [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]
        return sorted(rows, key=lambda row: row["candidate"])


@contextmanager
def ending_with(process: subprocess.Popen[str]) -> Iterator[None]:
    """Assert that every descendant of the process, among them Ray, ends when it does. Ray's agents look for their raylet now and then."""
    family = [one for one in psutil.Process(process.pid).children(recursive=True) if not one.name().endswith("Agent")]
    assert len(family) > 2
    yield
    process.wait(60)
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == []


def texts(found: list[Measured]) -> set[tuple[str, str, str | None, str | None]]:
    return {(one.candidate, one.input, one.text, one.error) for one in found}


def test_a_run_that_was_killed_at_random_and_resumed_equals_one_that_was_not(tmp_path: Path) -> None:
    contents = [f"call {number}" for number in range(12)]
    whole = Driver(tmp_path / "whole", contents)
    assert whole.run()[0] == 0
    killed = Driver(tmp_path / "killed", contents, slow_s=0.2)
    dice = random.Random()
    for _ in range(3):
        before, computed = killed.kept(), killed.computed()
        process = killed.start()
        killed.wait_for(process, len(before) + dice.randint(1, 5))
        time.sleep(dice.uniform(0, 0.4))
        assert process.poll() is None
        with ending_with(process):
            process.kill()
        process.communicate()
        assert {one.key for one in before} <= {one.key for one in killed.kept()}, "a result that was kept is lost"
        again = killed.computed() - computed
        assert not {(one.model, one.input) for one in before} & set(again), "a result that was kept was computed again"
    before, computed = killed.kept(), killed.computed()
    status, printed = killed.run()
    assert status == 0
    assert f"{len(before)} of 24 results are kept from before." in printed
    assert sum((killed.computed() - computed).values()) == 24 - len(before)
    assert texts(killed.kept()) == texts(whole.kept())
    assert {one.key for one in killed.kept()} == {one.key for one in whole.kept()}
    assert killed.summary() == whole.summary()
    assert killed.run()[0] == 0
    assert sum(killed.computed().values()) == sum(computed.values()) + 24 - len(before)


def test_what_fails_is_named_and_counted_and_tried_again_and_the_rest_goes_on(tmp_path: Path) -> None:
    contents = ["a", "die once", "die", "hang hard", "hang", "unreadable", "wrong", "b"]
    reference = tmp_path / "texts.tsv"
    reference.write_text("".join(f"{content}.wav\t{WORDS}\n" for content in contents if content != "b"))
    driver = Driver(tmp_path / "run", contents, models=["broken", "base"], reference=str(reference), timeout_s=3, cpus=1)
    (driver.calls / "gone.wav").symlink_to("nowhere")
    status, printed = driver.run()
    assert status == 1
    assert "15 of 18 failed; the same command tries them again:" in printed
    for sentence in (
        "broken, openai-whisper (8 inputs): the model does not load: its file is cut off",
        "gone.wav (2 candidates): it cannot be read: No such file or directory",
        "base, openai-whisper: die.wav: its process ended twice: it was killed, perhaps since memory was full, or crashed",
        "base, openai-whisper: hang.wav: it took longer than 3 s, its --timeout",
        "base, openai-whisper: hang hard.wav: its process was ended beyond its --timeout",
        "base, openai-whisper: unreadable.wav: the recording has no audio track",
        "base, openai-whisper: wrong.wav: language de needs a multilingual model",
        "2 of 9 have no known text: b.wav, gone.wav",
    ):
        assert sentence in printed
    good = [one for one in driver.kept() if one.error is None]
    assert sorted((one.model, one.input) for one in good) == [("base", f"{name}.wav") for name in ("a", "b", "die once")]
    assert driver.computed()["base", "die.wav"] == 2
    assert driver.computed()["base", "die once.wav"] == 2
    before = driver.computed()
    (driver.calls / "hang hard.wav").unlink()
    status, printed = driver.run()
    assert status == 1
    assert "13 of 16 failed" in printed
    again = driver.computed() - before
    assert set(again) == {("base", f"{name}.wav") for name in ("die", "hang", "wrong")}


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_there_is_ends_the_tasks_and_says_how_to_go_on(tmp_path: Path, ending: signal.Signals) -> None:
    driver = Driver(tmp_path, [f"call {number}" for number in range(20)], slow_s=0.3)
    process = driver.start()
    driver.wait_for(process, 4)
    with ending_with(process):
        if ending == signal.SIGINT:
            os.killpg(process.pid, ending)  # as a terminal does: Ray's processes get it too
        else:
            process.send_signal(ending)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    kept = driver.kept()
    assert 4 <= len(kept) < 40
    assert f"Interrupted. {len(kept)} of 40 results are kept in {driver.out}: the same command goes on from there." in printed
    assert "tiny.en, openai-whisper" in printed
    assert "Traceback" not in printed
    assert driver.run()[0] == 0
    assert len(driver.kept()) == 40


def test_a_full_disk_is_named_and_what_was_kept_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", out], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        driver = Driver(tmp_path / "run", [f"call {number}" for number in range(20)], out=str(out))
        driver.out = out
        status, printed = driver.run()
        assert status == 1
        assert f"{out / NAME} cannot take another result: No space left on device" in printed
        assert f"{out / 'results.csv'} cannot be written: No space left on device" in printed
        assert (out / NAME).read_bytes().endswith(b"\n")
        assert {path.name for path in out.iterdir()} <= {NAME, "results.csv", "summary.csv"}
        kept = driver.kept()
        assert 0 < len(kept) < 40
        assert f"{len(kept)} of 40 results are kept" in printed
        subprocess.run(["mount", "-o", "remount,size=20m", out], check=True)
        before = driver.computed()
        assert driver.run()[0] == 0
        assert len(driver.kept()) == 40
        assert sum((driver.computed() - before).values()) == 40 - len(kept)
    finally:
        subprocess.run(["umount", out], check=True)


def test_a_task_that_asks_for_more_than_there_is_is_refused_at_once(tmp_path: Path) -> None:
    status, printed = Driver(tmp_path, ["a"], cpus=1000).run()
    assert status == 1
    assert "a task asks for 1000 of CPU, and the largest node has" in printed


def test_on_a_cluster_tasks_run_where_their_model_is(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1, resources={"whisper": 1})
        driver = Driver(tmp_path, [f"call {number}" for number in range(4)], address=cluster.address, memory_bytes=1 << 20)
        status, printed = driver.run()
        assert status == 0, printed
        nodes = {one.node for one in driver.kept()}
        assert len(nodes) == 1
        assert nodes.pop().endswith(f"-{node.node_id[:6]}")
        assert {one.asked_bytes for one in driver.kept()} == {1 << 20}
    finally:
        cluster.shutdown()
