"""Jaeger, a real collector: it receives traces by OTLP, and its query API says what it has understood.

`make jaeger` builds it by Go's own commands from go.mod and go.sum beside this module, and keeps it outside of the repository.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.collector import Received
from testing.service import free_port

FOLDER = Path(__file__).parent
PACKAGE = "github.com/jaegertracing/jaeger/cmd/jaeger"
LIFE_S = 900
"""Jaeger ends after this time, also where its test was killed."""
START_S = 30
FLAGS = ("-gcflags=all=-N -l", "-ldflags=-s -w")
"""No optimization, which takes a third of the build's time, and no symbols."""


class Jaeger:
    """A running Jaeger, which keeps traces in memory."""

    def __init__(self, url: str, query_url: str) -> None:
        """`url`: of OTLP."""
        self.url = url
        self._query = httpx.Client(base_url=query_url)

    def received(self, trace_id: str) -> Received:
        """The trace as it is stored; without spans where there is none."""
        from google.protobuf import json_format
        from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

        answer = self._query.get(f"/api/v3/traces/{trace_id}", params={"raw_traces": "true"})
        if answer.status_code == 404:
            return Received([], set())
        # OTLP's JSON has ids in hex, protobuf's has bytes in base64.
        text = re.sub(r'("(?:trace|span|parentSpan)Id":\s*)"([0-9a-f]*)"', _in_base64, answer.raise_for_status().text)
        return Received.of([json_format.ParseDict(json.loads(text)["result"], TracesData())], trace_id)

    def found(self, operation: str, **attributes: str) -> set[str]:
        """The ids of the traces that the search of Jaeger's page finds: those with a span of this name and these attributes."""
        query = {"service": "sonograph", "operation": operation, "tags": json.dumps(attributes)}
        return {trace["traceID"] for trace in self._shown("/api/traces", **query)}

    def orphans(self, trace_id: str) -> list[str]:
        """The names of the spans whose parent Jaeger misses, by its own warnings."""
        (trace,) = self._shown(f"/api/traces/{trace_id}")
        return [span["operationName"] for span in trace["spans"] if "invalid parent span" in str(span["warnings"])]

    def _shown(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The traces as Jaeger's page gets them."""
        return list(self._query.get(path, params=query).raise_for_status().json()["data"])

    def close(self) -> None:
        self._query.close()


def _in_base64(found: re.Match[str]) -> str:
    return f'{found[1]}"{base64.b64encode(bytes.fromhex(found[2])).decode()}"'


@contextlib.contextmanager
def running(protocol: str = "http/protobuf") -> Iterator[Jaeger]:
    """Run Jaeger on loopback, for traces by this protocol. Skips the test where it is not built."""
    program = _program()
    ports = {"http/protobuf": free_port(), "grpc": free_port(), "query": free_port(), "query_grpc": free_port()}
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    jaeger = Jaeger(f"http://{addresses[protocol]}", f"http://{addresses['query']}")
    variables = {"OTLP_HTTP": "http/protobuf", "OTLP_GRPC": "grpc", "QUERY_HTTP": "query", "QUERY_GRPC": "query_grpc"}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["timeout", "--kill-after", "0.1", str(LIFE_S), program, "--config", FOLDER / "config.yaml"],
            env=os.environ | {variable: addresses[name] for variable, name in variables.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            until_s = time.monotonic() + START_S
            while not _receives(f"http://{addresses['http/protobuf']}"):  # receivers start last
                output.seek(0)
                assert process.poll() is None, output.read()
                assert time.monotonic() < until_s, output.read()
                time.sleep(0.1)
            yield jaeger
        finally:
            jaeger.close()
            process.terminate()  # `timeout` passes it on, and then kills: Jaeger waits 10 s for connections of exporters
            process.wait(30)


def _receives(url: str) -> bool:
    """Whether OTLP over HTTP takes an export of nothing."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.post(f"{url}/v1/traces", headers={"Content-Type": "application/x-protobuf"}).status_code == 200
    return False


def _program() -> Path:
    if shutil.which("go") is None:
        pytest.skip("Go, which builds Jaeger, is not on this machine")
    if not (program := built()).exists():
        pytest.skip("Jaeger is not built on this machine: `make jaeger`")
    return program


def built() -> Path:
    """The program's place in the user's cache, by the modules and the Go that it is built with."""
    version = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, check=True, timeout=60).stdout
    key = hashlib.sha256((FOLDER / "go.sum").read_bytes() + version).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sonograph" / f"jaeger-{key}"


def build() -> None:
    """Build Jaeger, unless it is. Needs no C compiler and no node: its page is a placeholder."""
    if (program := built()).exists():
        return
    program.parent.mkdir(parents=True, exist_ok=True)
    begun = program.with_suffix(f".{os.getpid()}")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", *FLAGS, "-o", begun, PACKAGE], cwd=FOLDER, env=environment, check=True)
    begun.replace(program)
