"""`sonograph serve` before it starts a process: its address, its warnings and its refusals."""

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sonograph import serve
from sonograph.addresses import is_loopback
from testing.service import ROOT, config, environment

pytestmark = pytest.mark.slow

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WARNING = "Warning: every client that reaches port"


def refused(*options: str) -> str:
    """The output of a start that fails: no Ray runs in these tests."""
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "serve", *options]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    ("host", "keys", "warned"), [("0.0.0.0", None, True), ("0.0.0.0", "keys.txt", False), ("127.0.0.1", None, False)]
)
def test_listening_beyond_this_machine_without_keys_gives_a_warning(
    tmp_path: Path, host: str, keys: str | None, warned: bool
) -> None:
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = tmp_path / "config.yaml"
        file.write_text(config(port, http={"api_keys_file": keys} if keys else {}))
        printed = refused("--config", str(file), "--host", host, "--port", str(port))
    assert (WARNING in printed) == warned
    assert f"port {port} is in use" in printed


class Server:
    """A server that ends after three waits."""

    def __init__(self) -> None:
        self.waits = 0

    def wait(self, timeout: float) -> int:
        self.waits += 1
        if self.waits < 3:
            raise subprocess.TimeoutExpired("serve", timeout)
        return 7


def test_a_log_that_was_removed_ends_no_service(tmp_path: Path) -> None:
    server = Server()
    assert serve._watch(server, tmp_path / "removed.log") == 7
    assert server.waits == 3


def test_the_command_prints_its_version() -> None:
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "--version"]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == f"sonograph {VERSION}\n"


@pytest.mark.parametrize("host", ["192.0.2.7", "no.such.host.invalid"])
def test_an_address_that_is_not_this_machines_is_refused(host: str) -> None:
    assert f"{host} is no address of this machine" in refused("--host", host)


def test_the_port_of_the_config_counts_without_an_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = tmp_path / "config.yaml"
        file.write_text(config(port))
        assert f"port {port} is in use" in refused("--config", str(file))


def test_the_host_of_the_config_counts_without_an_option(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    content = yaml.safe_load(config(8000))
    content["http_options"]["host"] = "192.0.2.7"
    file.write_text(yaml.safe_dump(content))
    printed = refused("--config", str(file))
    assert WARNING in printed
    assert "192.0.2.7 is no address of this machine" in printed


@pytest.mark.parametrize(
    ("http", "timeout_s", "sentence"),
    [
        ({"deadline_s": 300}, 180, "after 180 s (http_options: request_timeout_s), and it has 300 s (setting http.deadline_s)"),
        ({"deadline_s": 180}, 180, "set request_timeout_s to 240"),
        ({}, 120, "and it has 120 s"),
        ({"deadline_s": 300}, 360, None),
        ({"deadline_s": 300}, None, None),
        ({}, 180, None),
    ],
)
def test_a_timeout_of_serves_that_is_shorter_than_the_deadline_is_refused(
    tmp_path: Path, http: dict[str, int], timeout_s: int | None, sentence: str | None
) -> None:
    file = tmp_path / "config.yaml"
    content = yaml.safe_load(config(8000, http=http))
    content["http_options"] |= {"host": "192.0.2.7", "request_timeout_s": timeout_s}
    file.write_text(yaml.safe_dump(content))
    printed = refused("--config", str(file))
    assert (sentence or "192.0.2.7 is no address of this machine") in printed


def test_the_server_gets_the_config_with_this_address() -> None:
    changed = yaml.safe_load(serve._listening(ROOT / "graphs" / "local.yaml", "0.0.0.0", 8001))
    assert (changed["http_options"]["host"], changed["http_options"]["port"]) == ("0.0.0.0", 8001)
    assert changed["http_options"]["request_timeout_s"] == 180
    assert changed["applications"][0]["args"] == {}


def test_the_server_gets_the_pipe_of_the_requests_lines() -> None:
    changed = yaml.safe_load(serve._listening(ROOT / "graphs" / "local.yaml", "127.0.0.1", 8000, "/proc/7/fd/8"))
    assert changed["applications"][0]["args"] == {"logging": {"output": "/proc/7/fd/8"}}


@pytest.mark.parametrize(
    ("host", "near", "loopback"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("localhost", "localhost", True),
        ("0.0.0.0", "127.0.0.1", False),
        ("192.0.2.7", "192.0.2.7", False),
        ("::1", "[::1]", True),
        ("::", "[::1]", False),
        ("2001:db8::1", "[2001:db8::1]", False),
        ("speech.example", "speech.example", False),
    ],
)
def test_this_machine_reaches_a_host_at_its_near_address(host: str, near: str, loopback: bool) -> None:
    assert serve._near(host) == near
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(
    ("options", "cpus"),
    [
        ([{"num_cpus": 500}, {"num_cpus": 500}], 1001),
        ([{"num_cpus": 1000.5}, {"num_cpus": 0}], 1002),
        ([{}, {"num_cpus": 1000}], 1002),
        ([{"num_cpus": 0}, {"num_cpus": 0}], None),
    ],
)
def test_ray_counts_a_cpu_more_than_the_models_need(tmp_path: Path, options: list[dict[str, float]], cpus: int | None) -> None:
    file = tmp_path / "config.yaml"
    models = {name: {"ray_actor_options": one} for name, one in zip(("whisper", "diffusion"), options, strict=True)}
    file.write_text(config(8000, models))
    command = serve._with_spare_cpu(file)
    assert command == ([] if cpus is None else ["/usr/bin/env", f'RAY_OVERRIDE_RESOURCES={{"CPU": {cpus}}}'])


def test_replicas_count_for_the_cpus(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    scaled = {"num_replicas": 300}, {"autoscaling_config": {"min_replicas": 1, "max_replicas": 500}}
    file.write_text(config(8000, dict(zip(("whisper", "diffusion"), scaled, strict=True))))
    assert serve._with_spare_cpu(file)[1] == 'RAY_OVERRIDE_RESOURCES={"CPU": 801}'
