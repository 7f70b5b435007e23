"""`sonograph serve`: started, started twice, ended during the start."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from testing import speech
from testing.service import ROOT, Service, environment, free_port

pytestmark = pytest.mark.serve
BIN = Path(sys.prefix) / "bin"
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()


def sonograph_serve(port: int, **variables: str) -> subprocess.Popen[str]:
    command = [str(BIN / "sonograph"), "serve", "--port", str(port)]
    env = environment() | variables
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_serve_prints_the_models_and_a_command_for_the_graph(service: Service) -> None:
    printed = service.wait_for_output("curl")
    assert f"curl -F file=@graphs/samples/red-apple.wav {service.url}/graph -o picture.png" in printed
    assert "tiny.en" in printed
    assert "small-stable-diffusion" in printed


def test_a_second_service_on_the_same_port_is_refused(service: Service) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    second = sonograph_serve(port)
    printed, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert printed.count("\n") == 1
    assert f"port {port} is in use" in printed
    assert "cat" in service.draw(CAT)["transcript"].lower()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_leaves_no_process_and_only_private_files(ending: signal.Signals, tmp_path: Path) -> None:
    """The service has a home of its own, without a token of Ray's."""
    port = free_port()
    process = sonograph_serve(port, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    family: set[psutil.Process] = set()
    deadline_s = time.monotonic() + 60
    while not any("raylet" in one.name() for one in family) and time.monotonic() < deadline_s:
        family |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.2)
    family |= set(psutil.Process(process.pid).children(recursive=True))
    process.send_signal(ending)
    printed, _ = process.communicate(timeout=120)
    _, left = psutil.wait_procs(list(family), timeout=30)
    assert left == []
    assert "Stopped." in printed
    assert "Traceback" not in printed
    assert process.returncode == 0
    log, token = tmp_path / "state" / "sonograph" / f"serve-{port}.log", tmp_path / ".ray" / "auth_token"
    assert str(log) in printed
    assert [path.stat().st_mode & 0o777 for path in (log.parent, log, token)] == [0o700, 0o600, 0o600]
