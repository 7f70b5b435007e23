"""GET /docs in a real Chromium: it shows every route, loads nothing from another host and obeys its own policy."""

import shutil
import subprocess
from pathlib import Path

import pytest

from testing.fakes import FakeService
from testing.serving import serving

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium")
def test_the_docs_show_every_route_without_a_policy_violation(tmp_path: Path) -> None:
    with serving(FakeService().app()) as url:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", f"{url}/docs"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for path in ("/graph", "/listen", "/healthz", "/readyz", "/v1/audio/transcriptions", "/v1/images/generations", "/v1/models"):
        assert f'data-path="{path}"' in shown.stdout
    assert 'id="operations-' in shown.stdout
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in console if "Content Security Policy" in line or "Refused" in line or "Uncaught" in line] == []
