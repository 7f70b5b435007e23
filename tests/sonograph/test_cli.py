"""`sonograph serve` and `serve run`, as a newcomer meets them: started, started twice, ended in the middle."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from testing import speech
from testing.service import ROOT, Service, environment, free_port, running

pytestmark = pytest.mark.serve
BIN = Path(sys.prefix) / "bin"
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()


def sonograph_serve(port: int, **variables: str) -> subprocess.Popen[str]:
    command = [str(BIN / "sonograph"), "serve", "--port", str(port)]
    env = environment() | variables
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_first_word_is_what_is_served_and_where(service: Service) -> None:
    said = service.printed("curl")
    assert service.url in said
    assert "A small Stable Diffusion of 518 things" in said


def test_a_second_one_on_the_same_port_says_so_and_ends(service: Service) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    second = sonograph_serve(port)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert said.count("\n") == 1
    assert f"port {port} is in use" in said
    assert "cat" in service.draw(CAT)["transcript"].lower()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_end_in_the_middle_of_the_start_leaves_no_process_and_only_private_files(
    ending: signal.Signals, tmp_path: Path
) -> None:
    """In a home of its own, where Ray has no token yet."""
    port = free_port()
    process = sonograph_serve(port, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    family: set[psutil.Process] = set()
    deadline_s = time.monotonic() + 60
    while not any("raylet" in one.name() for one in family) and time.monotonic() < deadline_s:
        family |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.2)
    family |= set(psutil.Process(process.pid).children(recursive=True))
    process.send_signal(ending)
    said, _ = process.communicate(timeout=120)
    _, left = psutil.wait_procs(list(family), timeout=30)
    assert left == []
    assert "Stopped." in said
    assert "Traceback" not in said
    assert process.returncode == 0
    log, token = tmp_path / "state" / "sonograph" / f"serve-{port}.log", tmp_path / ".ray" / "auth_token"
    assert str(log) in said
    assert [path.stat().st_mode & 0o777 for path in (log.parent, log, token)] == [0o700, 0o600, 0o600]


def test_serve_run_works_from_the_root_without_activation(tmp_path: Path) -> None:
    command = [str(BIN / "serve"), "run", "--address", "local", "--name", "sonograph", "graphs.voice_to_image:app"]
    with running(tmp_path, command, port=8000) as service:
        assert "cat" in service.draw(CAT)["transcript"].lower()
