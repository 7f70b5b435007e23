"""The measured services, each in a process of its own that ends with its context."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from testing.service import ROOT, START_S, Service, config, environment, free_port

ARTICLE = ROOT / "benchmarks" / "peers" / "article"
BINARIES = Path(sys.prefix) / "bin"
STOP_S = 90


def sonograph(folder: Path, settings: dict[str, Any] | None = None) -> AbstractContextManager[Service]:
    """Start this service as `make serve` does, with these settings."""
    port = free_port()
    path = folder / "sonograph.yaml"
    path.write_text(config(port, **(settings or {})))
    command = [str(BINARIES / "sonograph"), "serve", "--config", str(path), "--port", str(port)]
    return running(command, variables() | {"XDG_STATE_HOME": str(folder)}, port, folder, "/readyz")


def article(folder: Path) -> AbstractContextManager[Service]:
    """Start the blog article's architecture by `serve run`; its first request loads the models."""
    port = free_port()
    config = yaml.safe_load((ARTICLE / "serve.yaml").read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"] = {"folder": str(folder)}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    plain = without_rays()
    # Triton's stub runs the `python3` on PATH; Ray's workers find this package by PYTHONPATH.
    ours = {"PATH": f"{BINARIES}:{plain['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [str(BINARIES / "serve"), "run", "--address", "local", str(path)]
    return running(command, plain | ours, port, folder, "/openapi.json")


SERVICES: dict[str, Callable[[Path], AbstractContextManager[Service]]] = {"sonograph": sonograph, "article": article}


def variables(checkout: Path = ROOT) -> dict[str, str]:
    """Return the tests' environment without their shorter interval of Ray's metrics."""
    return {name: value for name, value in environment(checkout).items() if name != "RAY_metrics_report_interval_ms"}


def without_rays() -> dict[str, str]:
    """Return the environment of a service that is not ours: of graphs/ray.env it has that Ray reports its use to nobody."""
    return {
        name: value for name, value in variables().items() if not name.startswith("RAY_") or name == "RAY_USAGE_STATS_ENABLED"
    }


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], port: int, folder: Path, ready: str, cwd: Path = ROOT
) -> Iterator[Service]:
    """Run a service that serves once the path `ready` answers 200. SIGTERM ends benchmark and service, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    output = folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=file, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
    service = Service(process, port, output)
    processes: list[psutil.Process] = []
    try:
        _wait(service, ready)
        yield service
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = service.processes()
        service.client.close()
        process.send_signal(signal.SIGTERM)  # a job in the background ignores Ctrl-C, and so do its children
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(processes, timeout=5)
        for survivor in alive:
            survivor.kill()


def _wait(service: Service, ready: str) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and service.process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if service.client.get(ready).status_code == 200:
                return
        time.sleep(0.25)
    raise SystemExit(f"the service did not start: {service.output.read_text()}")
