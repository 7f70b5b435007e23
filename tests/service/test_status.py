"""`sonograph status` of the real service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testing.service import Service, environment

pytestmark = pytest.mark.serve


def status(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "status", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)


def test_the_command_shows_each_replica_on_its_node(service: Service) -> None:
    service.wait_until(lambda: status("--url", service.url).returncode == 0, "everything runs")
    rows = [line.split() for line in status("--url", service.url).stdout.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [
        ("ingress", "-", "RUNNING"),
        ("whisper", "tiny.en", "RUNNING"),
        ("diffusion", "small-stable-diffusion", "RUNNING"),
    ]
    stages = json.loads(status("--url", service.url, "--json").stdout)["stages"]
    assert [row[2] for row in rows[1:]] == [stage["replicas"][0]["id"] for stage in stages]
    assert {tuple(row[4:]) for row in rows[1:]} == {(node["host"], f"({node['address']})") for node in stages[0]["replicas"]}


def test_a_port_without_a_service_is_status_2() -> None:
    done = status("--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing answers at http://127.0.0.1:9" in done.stderr
