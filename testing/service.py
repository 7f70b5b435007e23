"""A real service in a separate process, started as `make serve` starts it: Ray, Serve, both models, their Triton servers."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import psutil
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

ROOT = Path(__file__).parent.parent
START_S = 240


def environment(checkout: Path = ROOT) -> dict[str, str]:
    """Return this process's variables and Ray's as `make serve` sets them, without the environment's bin on PATH.

    Ray reports metrics every second, its shortest interval, so that tests do not wait for them.
    """
    lines = (checkout / "graphs" / "ray.env").read_text().splitlines()
    ray = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, **ray, "RAY_metrics_report_interval_ms": "1000", "PATH": os.defpath}


def free_port() -> int:
    """Return a free port, above the ports of Ray's workers (10002 to 19999) and below Linux' ephemeral ports.

    A connection of one of Ray's processes could take an ephemeral port before the test opens it.
    """
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("0.0.0.0", random.randrange(20_000, 32_000)))
            return int(listener.getsockname()[1])


class Service:
    """A running service: its client, its processes, its logs and its metrics."""

    def __init__(self, process: subprocess.Popen[str], port: int, output: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.output = output
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def post(self, recording: bytes, accept: str = "application/json", **fields: str) -> httpx.Response:
        return self.client.post("/graph", files={"file": recording}, data=fields, headers={"Accept": accept})

    @contextlib.contextmanager
    def events(
        self, recording: bytes, headers: dict[str, str] | None = None, **fields: str
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Yield the data of each event as it arrives. The end of the context closes the connection."""
        with (
            httpx.Client(base_url=self.url, timeout=120, headers=headers) as client,
            httpx_sse.connect_sse(client, "POST", "/graph", files={"file": recording}, data=fields) as source,
        ):
            yield ({"event": event.event, "id": event.id, **event.json()} for event in source.iter_sse() if event.data)

    def draw(self, recording: bytes, **fields: str) -> dict[str, Any]:
        """Return the JSON answer of a request, which must succeed."""
        answer = self.post(recording, **fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, self.output.read_text()
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.25)
        raise AssertionError(f"not ready within {START_S} s: {self.output.read_text()}")

    def wait_for_output(self, text: str) -> str:
        """Wait until the command has printed `text`, and return its whole output."""
        deadline_s = time.monotonic() + 30
        while text not in self.output.read_text() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert text in self.output.read_text()
        return self.output.read_text()

    def wait_until_replaced(self, deployment: str, old: psutil.Process) -> None:
        """Wait for a new replica. Serve counts a dead one as running until its next health check, some seconds later."""
        deadline_s = time.monotonic() + START_S
        while [one.pid for one in self.replicas(deployment)] in ([], [old.pid]):
            assert time.monotonic() < deadline_s, f"{deployment} was not replaced within {START_S} s"
            time.sleep(0.25)
        self.wait_until_ready()

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def replicas(self, deployment: str, application: str = "sonograph") -> list[psutil.Process]:
        return [one for one in self.processes() if f"ServeReplica:{application}:{deployment}" in " ".join(_cmdline(one))]

    def replica(self, deployment: str, application: str = "sonograph") -> psutil.Process:
        (found,) = self.replicas(deployment, application)
        return found

    def stub(self, deployment: str, application: str = "sonograph") -> psutil.Process:
        """Return the process that holds the deployment's model."""
        of_replica = self.replica(deployment, application).children(recursive=True)
        (found,) = (one for one in of_replica if "triton_python" in one.name())
        return found

    @property
    def controller(self) -> psutil.Process:
        """Serve's controller."""
        (found,) = (one for one in self.processes() if "ServeController" in " ".join(_cmdline(one)))
        return found

    def interrupt(self) -> int:
        """Send Ctrl-C and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    @property
    def session(self) -> Path:
        """Ray's folder of this service's cluster; other clusters on the machine have their own."""
        option = "--raylet_socket_name="
        (socket,) = {part for one in self.processes() for part in _cmdline(one) if part.startswith(option)}
        return Path(socket.removeprefix(option)).parent.parent

    @property
    def dashboard(self) -> str:
        """Address of this cluster's dashboard, for `serve deploy`."""
        (process,) = (one for one in self.processes() if any(part.endswith("dashboard/dashboard.py") for part in _cmdline(one)))
        ports = [at.laddr.port for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN]
        (wanted,) = (int(part.removeprefix("--port=")) for part in _cmdline(process) if part.startswith("--port="))
        return f"http://127.0.0.1:{min(port for port in ports if port >= wanted)}"  # Ray takes the first free port from there on

    def logs(self, deployment: str) -> str:
        """Return the logs of all replicas of the deployment, including dead ones."""
        files = (self.session / "logs" / "serve").glob(f"replica_sonograph_{deployment}_*.log")
        return "".join(file.read_text() for file in sorted(files))

    def serve_logs(self) -> dict[str, str]:
        """Return the logs of the proxies, the controller and all replicas, and what their processes wrote to standard error, by path."""
        folder = self.session / "logs"
        return {str(file): file.read_text() for file in sorted([*folder.glob("serve/*.log"), *folder.glob("worker-*.err")])}

    def exported(self) -> list[str]:
        """Return the text of each process's metrics, discovered as Prometheus does it."""
        found = json.loads((self.session / "prom_metrics_service_discovery.json").read_text())
        targets = [target for entry in found for target in entry["targets"]]
        return [self.client.get(f"http://{target}/metrics", timeout=30).text for target in targets]

    def scrape(self) -> list[Metric]:
        """Return all metrics, parsed as Prometheus does it."""
        return [family for text in self.exported() for family in text_string_to_metric_families(text)]

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name that have these labels."""
        return sum(sample.value for sample in self._samples(name) if labels.items() <= sample.labels.items())

    def _samples(self, name: str) -> Iterator[Sample]:
        """Parse the lines of this name alone: all of them take a core from the service that a test waits for."""
        lines = [line for text in self.exported() for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
        for family in text_string_to_metric_families("\n".join([*lines, ""])):
            yield from family.samples

    def wait_until(self, condition: Callable[[], bool], description: str, wait_s: float = 60) -> None:
        deadline_s = time.monotonic() + wait_s
        while not condition():
            assert time.monotonic() < deadline_s, f"not within {wait_s:.0f} s: {description}"
            time.sleep(0.25)


@contextlib.contextmanager
def running(folder: Path, command: list[str], port: int, checkout: Path = ROOT) -> Iterator[Service]:
    """Run `command` in a checkout of the repository until the context ends, and check that all its processes end."""
    output = folder / "output.txt"
    with output.open("w") as file:
        env = (
            environment(checkout) | {"XDG_STATE_HOME": str(folder)} | ({} if checkout == ROOT else {"PYTHONPATH": str(checkout)})
        )
        process = subprocess.Popen(command, cwd=checkout, env=env, stdout=file, stderr=subprocess.STDOUT, text=True)
    service = Service(process, port, output)
    children: list[psutil.Process] = []
    try:
        service.wait_until_ready()
        yield service
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = service.processes()
        try:
            if process.poll() is None:
                service.interrupt()
        finally:
            service.client.close()
            process.kill()
            _, remaining = psutil.wait_procs(children, timeout=30)
            for one in remaining:
                one.kill()
    assert remaining == [], f"still running: {remaining}"


def sonograph(
    folder: Path, deployments: dict[str, dict[str, Any]] | None = None, **args: Any
) -> contextlib.AbstractContextManager[Service]:
    """Run `sonograph serve` with `args` as the application's settings and `deployments` as further options of each deployment."""
    path, port = folder / "config.yaml", free_port()
    path.write_text(config(port, deployments, **args))
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "serve", "--config", str(path), "--port", str(port)]
    return running(folder, command, port)


def config(port: int, deployments: dict[str, dict[str, Any]] | None = None, **args: Any) -> str:
    """Return graphs/local.yaml with these changes."""
    content = yaml.safe_load((ROOT / "graphs" / "local.yaml").read_text())
    content["http_options"]["port"] = port
    (application,) = content["applications"]
    application["args"] = args
    for deployment in application["deployments"]:
        deployment |= (deployments or {}).get(deployment["name"], {})
    return yaml.safe_dump(content)


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
