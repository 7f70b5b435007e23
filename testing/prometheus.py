"""A real Prometheus (Debian's package), with its data in a folder of the caller's."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from kuberay.dashboards import ALL
from kuberay.manifest.monitoring import monitoring
from kuberay.manifest.selectors import job
from kuberay.profiles import CPU
from testing.service import ROOT, Service, free_port

START_S = 30


class Prometheus:
    """Client of one Prometheus' HTTP API. Raises ValueError, with Prometheus' own sentence, for what it refuses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=30)

    @property
    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self._client.get("/-/ready").status_code == 200
        return False

    def now(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: `metric`, the labels, and `value`, the time in seconds and the number as text."""
        return list(self._get("query", query=expression)["result"])

    def over(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """The series of a range query: `metric`, the labels, and `values`, the times in seconds and the numbers as text."""
        return list(self._get("query_range", query=expression, start=start_s, end=end_s, step=step_s)["result"])

    def rules(self) -> list[dict[str, Any]]:
        """The recording rules and alerts, each with its `health` and `lastError`."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def close(self) -> None:
        self._client.close()

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {parameters}")
        return dict(answer["data"])


@contextlib.contextmanager
def prometheus(folder: Path, config: dict[str, Any]) -> Iterator[Prometheus]:
    """Run Prometheus on a free port of this machine's loopback, on one core, until the context ends."""
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port, output = free_port(), folder / "prometheus.txt"
    command = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--storage.tsdb.retention.size=256MB"]
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
            cwd=folder,
            env=os.environ | {"GOMAXPROCS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    client = Prometheus(f"http://127.0.0.1:{port}")
    try:
        deadline_s = time.monotonic() + START_S
        while not client.ready:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline_s, f"not ready within {START_S} s: {output.read_text()}"
            time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def of_all(expression: str) -> str:
    """A dashboard's query as Grafana fills it in where `All` is chosen for each variable."""
    return re.sub(r"\$(\w+)", lambda found: ALL[found[1]], expression)


def scraping(service: Service, folder: Path, interval_s: int = 1) -> contextlib.AbstractContextManager[Prometheus]:
    """Run Prometheus with the configuration of docs/observability, on this service's metrics and with the rules of monitoring.yaml."""
    config = yaml.safe_load((ROOT / "docs" / "observability" / "prometheus.yaml").read_text())
    # Ray's list of targets has a job of its own; the rules select by that of the PodMonitor.
    config["scrape_configs"][0]["relabel_configs"] = [{"target_label": "job", "replacement": job(CPU)}]
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{interval_s}s")
    (discovery,) = config["scrape_configs"][0]["file_sd_configs"]
    discovery |= {"files": [str(service.session / Path(discovery["files"][0]).name)], "refresh_interval": f"{interval_s}s"}
    _, rules = monitoring(CPU)
    (folder / "rules.yaml").write_text(json.dumps(rules["spec"]))
    return prometheus(folder, config | {"rule_files": ["rules.yaml"]})
