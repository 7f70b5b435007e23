"""GET /docs in a real Chromium: it shows every route, loads nothing from another host and obeys its own policy."""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from testing.fakes import FakeService
from testing.service import free_port

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")


@contextlib.contextmanager
def serving() -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(FakeService().app(), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium")
def test_the_docs_show_every_route_without_a_policy_violation(tmp_path: Path) -> None:
    with serving() as url:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", f"{url}/docs"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for path in ("/graph", "/listen", "/healthz", "/readyz", "/v1/audio/transcriptions", "/v1/images/generations", "/v1/models"):
        assert f'data-path="{path}"' in shown.stdout
    assert 'id="operations-' in shown.stdout
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in console if "Content Security Policy" in line or "Refused" in line or "Uncaught" in line] == []
