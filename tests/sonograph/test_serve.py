"""`sonograph serve` before it starts anything: where it listens, and what it warns of."""

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sonograph import cli
from testing.service import ROOT, config, environment

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WARNING = "Warning: whoever reaches port"


def refused(*options: str) -> str:
    """What it says where it cannot start: no Ray runs in these tests."""
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "serve", *options]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    ("host", "keys", "warned"), [("0.0.0.0", None, True), ("0.0.0.0", "keys.txt", False), ("127.0.0.1", None, False)]
)
def test_another_address_without_keys_is_warned_of(tmp_path: Path, host: str, keys: str | None, warned: bool) -> None:
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = tmp_path / "config.yaml"
        file.write_text(config(port, http={"keys": keys} if keys else {}))
        said = refused("--config", str(file), "--host", host, "--port", str(port))
    assert (WARNING in said) == warned
    assert f"port {port} is in use" in said


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
    assert cli._watch(server, tmp_path / "removed.log") == 7
    assert server.waits == 3


def test_it_says_its_version() -> None:
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "--version"]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == f"sonograph {VERSION}\n"


@pytest.mark.parametrize("host", ["192.0.2.7", "no.such.host.invalid"])
def test_an_address_that_is_not_this_machines_is_refused(host: str) -> None:
    assert f"{host} is no address of this machine" in refused("--host", host)


def test_the_host_of_the_config_counts_where_none_is_given(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    content = yaml.safe_load(config(8000))
    content["http_options"]["host"] = "192.0.2.7"
    file.write_text(yaml.safe_dump(content))
    said = refused("--config", str(file))
    assert WARNING in said
    assert "192.0.2.7 is no address of this machine" in said


def test_what_serve_is_told_is_the_config_at_this_address() -> None:
    told = yaml.safe_load(cli._listening(ROOT / "graphs" / "local.yaml", "0.0.0.0", 8001))
    assert (told["http_options"]["host"], told["http_options"]["port"]) == ("0.0.0.0", 8001)
    assert told["http_options"]["request_timeout_s"] == 180


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
def test_where_this_machine_reaches_what_it_serves(host: str, near: str, loopback: bool) -> None:
    assert cli._near(host) == near
    assert cli._loopback(host) == loopback
