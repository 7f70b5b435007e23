"""The Redis of the manifests: its version, its memory and its probes; and the rendered commands, run with a real Redis."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from kuberay.images import Images
from kuberay.manifest.redis import redis
from kuberay.profiles import CPU
from testing.service import free_port

FIXED = Version("7.4.9")
"""This release fixes CVE-2026-23479, -25243 and -23631; 7.4.6 fixed CVE-2025-49844, -46817, -46818 and -46819, and 7.4.3 CVE-2025-21605."""
PASSWORD = "correct horse"
UNITS = {"kb": 2**10, "mb": 2**20, "gb": 2**30, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
"""Redis' and Kubernetes'."""
needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server (Debian's package) is not on this machine"
)


def container() -> dict[str, Any]:
    _, stateful = redis(CPU, Images())
    (found,) = stateful["spec"]["template"]["spec"]["containers"]
    return dict(found)


def options() -> dict[str, str]:
    """redis-server's, from the rendered command line."""
    return dict(re.findall(r"--([\w-]+) (\S+)", container()["command"][-1]))


def amount(text: str) -> int:
    match = re.fullmatch(r"(\d+)([A-Za-z]+)", text)
    assert match, f"{text} is no amount of memory"
    return int(match[1]) * UNITS[match[2]]


def test_redis_has_the_known_fixes_and_stays_on_its_line() -> None:
    (tag,) = re.findall(r"^docker\.io/library/redis:([\d.]+)-bookworm$", container()["image"])
    assert Version(tag) >= FIXED
    assert Version(tag).release[:2] == (7, 4), "another line has another licence, and perhaps another file format: decide it"


def test_redis_stays_below_its_limit_while_it_rewrites_its_file() -> None:
    resources, most = container()["resources"], amount(options()["maxmemory"])
    limit = amount(resources["limits"]["memory"])
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    fork, fragmentation, process_bytes = 2, 1.2, 32 * 2**20
    assert most * fork * fragmentation + process_bytes <= limit


def test_redis_never_drops_a_key() -> None:
    assert options()["maxmemory-policy"] == "noeviction"


def test_redis_is_probed_for_life_more_patiently_than_for_readiness() -> None:
    alive, ready = container()["livenessProbe"], container()["readinessProbe"]
    assert alive["exec"] != ready["exec"]
    # Kubernetes' defaults: 10 s between two probes, 3 failures.
    assert alive.get("periodSeconds", 10) * alive.get("failureThreshold", 3) > 30
    assert alive["timeoutSeconds"] > ready.get("timeoutSeconds", 1)


class Pod:
    """The container's processes on this machine, with a free port and a folder in place of the pod's own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def command(self, words: list[str]) -> list[str]:
        here = {"/data": str(self.folder), "redis-cli": f"redis-cli -p {self.port}"}
        return [re.sub("|".join(here), lambda found: here[found[0]], word) for word in words]

    @contextmanager
    def running(self, *more: str) -> Iterator[None]:
        words = self.command(container()["command"])
        words[-1] += " ".join([f" --port {self.port} --bind 127.0.0.1", *more])
        process = subprocess.Popen(words, env=os.environ | {"REDIS_PASSWORD": PASSWORD}, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def probe(self, name: str, password: str = PASSWORD) -> bool:
        words = self.command(container()[name]["exec"]["command"])
        env = os.environ | {"REDIS_PASSWORD": password}
        return subprocess.run(words, env=env, capture_output=True, check=False, timeout=30).returncode == 0

    def ask(self, *words: str) -> str:
        env = os.environ | {"REDISCLI_AUTH": PASSWORD}
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def wait_until(condition: Callable[[], bool], why: str) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, f"not within 60 s: {why}"
        time.sleep(0.05)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path, free_port())


@needs_redis
def test_a_real_redis_takes_the_rendered_options_and_answers_the_rendered_probes(pod: Pod) -> None:
    assert not pod.probe("livenessProbe")
    with pod.running():
        wait_until(lambda: pod.probe("readinessProbe"), "Redis is ready")
        assert pod.probe("livenessProbe")
        for name, value in options().items():
            if name not in ("requirepass", "dir", "maxmemory"):
                assert pod.ask("config", "get", name).splitlines() == [name, value]
        assert pod.ask("config", "get", "maxmemory").splitlines()[1] == str(amount(options()["maxmemory"]))
        for name in ("readinessProbe", "livenessProbe"):
            assert not pod.probe(name, password="wrong")
            assert not pod.probe(name, password="")


@needs_redis
def test_a_full_redis_refuses_a_write_and_keeps_its_data(pod: Pod) -> None:
    with pod.running():
        wait_until(lambda: pod.probe("readinessProbe"), "Redis is ready")
        pod.ask("set", "kept", "1")
        pod.ask("config", "set", "maxmemory", "1mb")
        pod.ask("setrange", "kept too", str(2**20), "x")
        assert pod.ask("set", "refused", "1").startswith("OOM")
        assert pod.ask("get", "kept") == "1"
        assert pod.probe("livenessProbe")
        assert pod.probe("readinessProbe")


@needs_redis
@pytest.mark.slow
def test_a_redis_that_reads_its_file_is_alive_and_not_yet_ready(pod: Pod) -> None:
    with pod.running():
        wait_until(lambda: pod.probe("readinessProbe"), "Redis is ready")
        fill(pod.port, 100_000)
    # Each key takes 0.2 ms then, so reading outlasts the probes.
    with pod.running("--key-load-delay 200"):
        wait_until(lambda: pod.probe("livenessProbe"), "Redis answers")
        assert pod.ask("ping").startswith("LOADING")
        assert not pod.probe("readinessProbe")
        assert pod.probe("livenessProbe")
        assert not pod.probe("livenessProbe", password="wrong")


def fill(port: int, keys: int) -> None:
    lines = [f'AUTH "{PASSWORD}"', *(f"SET {key} {key}" for key in range(keys)), "QUIT"]
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        assert answers.read().count(b"+OK") == keys + 2
