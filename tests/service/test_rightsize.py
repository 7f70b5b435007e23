"""`sonograph rightsize` of the real service, under a little load and without any."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from testing import speech
from testing.service import Service, environment

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
MIB = 2**20
SECONDS = "12"


@pytest.fixture
def load(service: Service) -> Iterator[None]:
    """Draw one picture after the other meanwhile."""
    ended = threading.Event()

    def draw() -> None:
        seed = 0
        while not ended.is_set():
            service.draw(CAT, seed=str(seed))
            seed += 1

    service.draw(CAT)
    client = threading.Thread(target=draw)
    client.start()
    yield
    ended.set()
    client.join(120)


def rightsize(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "rightsize", "--url", service.url, "--seconds", SECONDS, *arguments]
    return subprocess.run(command, env=environment() | {"COLUMNS": "80"}, capture_output=True, text=True, timeout=120)


def judged(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode in (0, 1), done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["subjects"]}


@pytest.mark.usefixtures("load")
def test_each_deployment_is_judged_by_its_own_processes(service: Service, tmp_path: Path) -> None:
    done = rightsize(service, "--json", "--write", str(tmp_path / "values.yaml"))
    subjects = judged(done)
    assert list(subjects) == ["ingress", "whisper", "diffusion"]
    for name in ("whisper", "diffusion"):
        used = subjects[name]["used"]
        assert subjects[name]["requested"]["cpus"] == 1
        assert not subjects[name]["idle"]
        assert 0.05 < used["cpus"]["p95"] < (psutil.cpu_count() or 1) + 0.5
        assert used["threads"]["max"] >= 1
        assert used["memory"]["max"] >= service.stub(name).memory_info().rss * 0.8, "the model's own process counts"
        assert subjects[name]["advised"]["memory_bytes"] > used["memory"]["max"]
    document = json.loads(done.stdout)
    assert [node["cpus"] for node in document["packing"]["nodes"]] == [psutil.cpu_count()]
    assert document["requests"] is not None

    rendered = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "sonograph"), "render", "cpu", "--values", "values.yaml", "--out", "manifests"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert rendered.returncode == 0, rendered.stderr


@pytest.mark.usefixtures("load")
def test_one_thread_on_one_cpu_is_nothing_to_complain_of(service: Service) -> None:
    """Each deployment of `make serve` asks for what it uses: a model of one CPU runs one thread."""
    for name, subject in judged(rightsize(service, "--json")).items():
        assert [one["sentence"] for one in subject["reasons"] if one["severity"] == "error"] == [], name


def test_without_a_request_there_is_no_advice_on_cpus(service: Service) -> None:
    service.wait_until(lambda: all(not one["queue"]["running"] for one in stages(service)), "nothing runs")
    done = rightsize(service)
    assert done.returncode == 0, done.stderr
    assert "The service was idle" in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80


def stages(service: Service) -> list[dict[str, Any]]:
    return [one for one in service.client.get("/graph").json()["stages"] if one["queue"]]
