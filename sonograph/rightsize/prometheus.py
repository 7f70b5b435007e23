"""Samples of a service's nodes from a Prometheus that scrapes them, over hours or days."""

import ipaddress
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from graphs.core.metrics import INGRESS
from kuberay.manifest.foreign_metrics import NODE_CPU, NODE_MEMORY_USED
from sonograph.errors import Failed
from sonograph.rightsize.amounts import MIB, MOST_BYTES, MOST_CPUS
from sonograph.rightsize.bounded import SILENCE_S, Bounded
from sonograph.rightsize.metrics import GPU_MEMORY_USED, GPU_USE, GREATEST, NODE_CPUS, REQUESTS
from sonograph.rightsize.used import Sample

MOST_POINTS = 1_000
"""Points of each series; Prometheus itself gives at most 11,000."""
LEAST_STEP_S = 15
RANGE_S = 60
"""Shortest range of a point: a node's figures are missing in some scrapes."""
MOST_GPUS = 64


class Prometheus:
    """Client of one Prometheus' HTTP API. Every method raises Failed."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        try:
            self._client = httpx.Client(base_url=self._url, timeout=SILENCE_S, transport=Bounded(transport), trust_env=False)
        except httpx.InvalidURL as error:
            raise Failed(f"{url} is not the address of a Prometheus, as http://127.0.0.1:9090 is") from error

    def nodes(self, addresses: Iterable[str], window_s: float) -> dict[str, list[Sample]]:
        """Samples of each node by its address: CPUs in use on average, and the most memory, of each step."""
        known = [one for one in dict.fromkeys(addresses) if _is_address(one)]
        if not known:
            raise Failed("the service names no addresses of nodes, by which Prometheus' series could be found")
        listed = "|".join(re.escape(one).replace("\\", "\\\\") for one in known)
        step_s = max(LEAST_STEP_S, math.ceil(window_s / MOST_POINTS))
        chosen, over = f'{{ip=~"{listed}"}}', f"[{max(step_s, RANGE_S)}s]"
        queries = {
            "cpus": f"avg_over_time({NODE_CPU}{chosen}{over}) / 100 * max_over_time({NODE_CPUS}{chosen}{over})",
            "memory": f"max_over_time({NODE_MEMORY_USED}{chosen}{over})",
            "use": f"sum by (ip) (avg_over_time({GPU_USE}{chosen}{over}))",
            "held": f"sum by (ip) (max_over_time({GPU_MEMORY_USED}{chosen}{over}))",
        }
        greatest = {"cpus": MOST_CPUS, "memory": MOST_BYTES, "use": 100.0 * MOST_GPUS, "held": MOST_BYTES / MIB}
        end_s = time.time()
        found = {name: self._series(query, end_s, window_s, step_s, greatest[name]) for name, query in queries.items()}

        def at(name: str, address: str, time_s: float) -> float | None:
            return found[name].get(address, {}).get(time_s)

        return {
            address: [
                Sample(
                    value, at("memory", address, time_s), (), at("use", address, time_s), _times(MIB, at("held", address, time_s))
                )
                for time_s, value in by_time.items()
            ]
            for address, by_time in found["cpus"].items()
        }

    def requests(self, application: str, window_s: float) -> float | None:
        """Requests that entered the service within the window; None where Prometheus does not know."""
        quoted = application.replace("\\", "\\\\").replace('"', '\\"')
        query = f'sum(increase({REQUESTS}{{application="{quoted}",stage="{INGRESS}"}}[{math.ceil(window_s)}s]))'
        for one in self._get("query", query=query):
            found = _number(one.get("value"), GREATEST[REQUESTS])
            if found is not None:
                return found[1]
        return None

    def _series(self, query: str, end_s: float, window_s: float, step_s: float, greatest: float) -> dict[str, dict[float, float]]:
        """Values by address and time. What is no number, or out of bounds, is left out."""
        found: dict[str, dict[float, float]] = {}
        for one in self._get("query_range", query=query, start=end_s - window_s, end=end_s, step=step_s):
            labels, values = one.get("metric"), one.get("values")
            if isinstance(labels, dict) and isinstance(values, list):
                points = [point for value in values if (point := _number(value, greatest)) is not None]
                found.setdefault(str(labels.get("ip")), {}).update(points)
        return found

    def _get(self, path: str, **parameters: Any) -> list[Mapping[str, Any]]:
        try:
            answer = self._client.get(f"/api/v1/{path}", params=parameters)
            document = answer.json()
        except httpx.TimeoutException as error:
            raise Failed(f"{self._url} has been silent for too long: is Prometheus there?") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Failed(f"no Prometheus answers at {self._url}: {error}") from error
        except ValueError as error:
            raise Failed(
                f"{self._url} does not answer as Prometheus does ({answer.status_code}): is this its address?"
            ) from error
        if not isinstance(document, dict) or document.get("status") != "success":
            reason = document.get("error") if isinstance(document, dict) else None
            raise Failed(f"Prometheus at {self._url} refuses ({answer.status_code}): {reason or 'without a reason'}")
        data = document.get("data")
        result = data.get("result") if isinstance(data, dict) else None
        return [one for one in result if isinstance(one, dict)] if isinstance(result, list) else []


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _number(point: Any, greatest: float) -> tuple[float, float] | None:
    """Time and value of a point, `[time, "value"]`; None where either cannot be true."""
    try:
        at, value = float(point[0]), float(point[1])
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return (at, value) if math.isfinite(at) and math.isfinite(value) and 0 <= value <= greatest else None
