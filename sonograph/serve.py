"""`sonograph serve`: Ray and Serve on this machine, from their start to an orderly end."""

import contextlib
import errno
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import yaml
from rich.console import Console

from sonograph import greeting, otel, state
from sonograph.addresses import LOCAL, PORT, is_loopback
from sonograph.drain import wait_until_idle
from sonograph.errors import fail
from sonograph.relay import Relay, with_output

CONFIG = Path(__file__).parents[1] / "graphs" / "local.yaml"
START_S = 300.0
"""Longest wait until every model is ready; a large model from a slow disk takes minutes."""
STOP_S = 60.0
WATCH_S = 10.0
LOG_BYTES = 32 * 1024 * 1024
"""Size of the server's log at which it becomes the old one; Ray's own logs have the replicas' lines too."""

console = Console(highlight=False)


def serve(
    config: Annotated[Path, typer.Option(help="Serve config of the service.")] = CONFIG,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on. Default: the config's.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 is every one. Default: the config's.")] = None,
) -> None:
    """Serve on this machine until Ctrl-C, as `serve run graphs/local.yaml` does, and report each step.

    Where standard output is no terminal, it also has one JSON line for each request, and those of rollouts, warnings and errors.
    """
    options = dict(yaml.safe_load(config.read_text(encoding="utf-8")).get("http_options") or {})
    host, port = host or str(options.get("host", LOCAL)), port or int(options.get("port", PORT))
    _require_time(options, _arguments(config))
    keyed = _arguments(config).get("http", {}).get("api_keys_file") is not None
    if not keyed and not is_loopback(host):
        console.print(
            f"[bold]Warning:[/bold] every client that reaches port {port} of this machine can use this service, since it has no API keys: "
            "set http.api_keys_file, or listen on 127.0.0.1 (docs/operations.md#access)",
            soft_wrap=True,
        )
    if not _free(host, port):
        fail(
            "serve",
            f"port {port} is in use, perhaps by another service: stop that one, or choose another: --port 8001 (make serve: PORT=8001)",
        )
    started_s = time.monotonic()
    # A script's `make serve &` has SIGINT ignored, and the server would inherit that: it could then not be ended in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    relay = None if sys.stdout.isatty() else Relay()
    with tempfile.NamedTemporaryFile("w", prefix="sonograph-", suffix=".yaml") as file:
        file.write(_listening(config, host, port, relay.path if relay else None))
        file.flush()
        log, output = _log(port)
        # `local`: a cluster of its own, also where another one runs on this machine. Ray's files are for this user only.
        command = [*_with_spare_cpu(config), str(Path(sys.prefix) / "bin" / "serve"), "run", "--address", "local", file.name]
        with os.fdopen(output, "ab") as file_of_log:
            server = subprocess.Popen(command, stdout=file_of_log, stderr=subprocess.STDOUT, start_new_session=True, umask=0o077)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _wait(server, _near(host), port, log)
            _greet(f"http://{_near(host)}:{port}", keyed, time.monotonic() - started_s)
            status = _watch(server, log)
            fail("serve", f"the server ended by itself (status {status}): the reason is at the end of {log}")
        except KeyboardInterrupt:
            console.print("\nStopping: requests in flight are finished first.")
        finally:
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: at once
                wait_until_idle(port, STOP_S, _near(host))
            _stop(server)
            if relay is not None:
                relay.close()
    console.print("Stopped.")


def _log(port: int) -> tuple[Path, int]:
    """The server's log and a file descriptor that appends to it. Makes Ray's token private, an older one too."""
    try:
        path = state.folder() / f"serve-{port}.log"
        state.make_private(state.RAY_TOKEN.expanduser())
        return path, state.create(path)
    except state.NotPrivate as error:
        fail("serve", str(error))
    except OSError as error:
        fail("serve", f"the server's log cannot be written ({error}): set XDG_STATE_HOME to a folder of yours")


def _watch(server: subprocess.Popen[bytes], log: Path) -> int:
    """Keep the server's log small until the server ends; return its exit status."""
    while True:
        try:
            return server.wait(WATCH_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError, state.NotPrivate):  # a log that was removed, or a full disk, ends no service
                state.rotate(log, LOG_BYTES)


def _listening(config: Path, host: str, port: int, output: str | None = None) -> str:
    """The config with this address. `output`: device of the requests' lines."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["http_options"] = {**content.get("http_options", {}), "host": host, "port": port}
    with_tracing(content)
    if output is not None:
        with_output(content, output)
    return yaml.safe_dump(content)


def with_tracing(content: dict[str, Any]) -> None:
    """Complete the settings of a Serve config by OpenTelemetry's variables; what the config itself sets stays."""
    try:
        found = otel.tracing()
        if unread := otel.not_read():
            Console(stderr=True).print(unread, style="yellow", soft_wrap=True, highlight=False)
    except ValueError as error:
        fail("serve", str(error))
    if found:
        (application,) = content["applications"]
        arguments = application.get("args") or {}
        application["args"] = {**arguments, "tracing": {**found, **arguments.get("tracing", {})}}


def _arguments(config: Path) -> dict[str, Any]:
    """The application's settings."""
    (application,) = yaml.safe_load(config.read_text(encoding="utf-8"))["applications"]
    return dict(application.get("args") or {})


def _with_spare_cpu(config: Path) -> list[str]:
    """A command that runs its arguments as the server: Ray counts a CPU more than the deployments need, for one candidate's model.

    Ray's CPUs are only a count, and the models share the real ones. Empty where this machine has as many.
    """
    (application,) = yaml.safe_load(config.read_text(encoding="utf-8"))["applications"]
    needed = math.ceil(sum(map(_cpus, application.get("deployments") or ()))) + 1
    if needed <= (os.cpu_count() or 1):
        return []
    return ["/usr/bin/env", f"RAY_OVERRIDE_RESOURCES={json.dumps({'CPU': needed})}"]  # which Ray's head reads at its start


def _cpus(deployment: dict[str, Any]) -> float:
    """CPUs of all of a deployment's replicas; a model's without options has one, as in `deployments.base.bind`."""
    default = 0 if deployment["name"] == "ingress" else 1
    each = (deployment.get("ray_actor_options") or {}).get("num_cpus", default)
    scaled = (deployment.get("autoscaling_config") or {}).get("max_replicas")
    return float(each * (scaled or deployment.get("num_replicas") or 1))


def _require_time(options: dict[str, Any], arguments: dict[str, Any]) -> None:
    """End the command where Serve would end a request that still has time."""
    from graphs.http.settings import HttpSettings  # here, since other commands do without pydantic

    deadline_s = dict(arguments.get("http") or {}).get("deadline_s", HttpSettings().deadline_s)
    timeout_s = options.get("request_timeout_s")
    if isinstance(deadline_s, int | float) and timeout_s and timeout_s <= deadline_s:
        fail(
            "serve",
            f"Serve would end a request after {timeout_s:g} s (http_options: request_timeout_s), and it has {deadline_s:g} s "
            f"(setting http.deadline_s): set request_timeout_s to {deadline_s + 60:g}",
        )


def _near(host: str) -> str:
    """The address by which this machine itself reaches a server that listens on `host`."""
    return {"0.0.0.0": LOCAL, "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _wait(server: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    """Return when every model is ready; reports meanwhile what it waits for."""
    reported = ""
    deadline_s = time.monotonic() + START_S
    with console.status("Starting Ray ..."):
        console.print(f"Starting Ray and Serve (their log: {log}) ...", soft_wrap=True)
        while time.monotonic() < deadline_s:
            if server.poll() is not None:
                fail(
                    "serve", f"the server ended while it started (status {server.returncode}): the reason is at the end of {log}"
                )
            waiting = _unready(host, port)
            if waiting == "":
                return
            if waiting is not None and waiting != reported:
                console.print(f"Waiting: {waiting}", soft_wrap=True)
                reported = waiting
            time.sleep(0.5)
    fail("serve", f"the models were not ready within {START_S:.0f} s ({reported}): the server's log is {log}")


def _unready(host: str, port: int) -> str | None:
    """The reason in /readyz; empty when every model is ready, None before the service answers."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        try:
            return str(json.load(error)["detail"])
        except (ValueError, KeyError, TypeError):
            return None
    except OSError:
        return None


def _greet(url: str, keyed: bool, took_s: float) -> None:
    sentence, commands = greeting.lines(url, keyed)
    console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"Ready after {took_s:.0f} s on [bold]{url}[/bold] (its API: /docs). Ctrl-C stops it. Try:\n", soft_wrap=True)
    console.print("".join(f"  {command}\n" for command in commands), soft_wrap=True, markup=False)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Serve shuts down on SIGINT and finishes requests in flight. Processes that an interrupted start leaves behind are ended too."""
    family: set[psutil.Process] = set()
    deadline_s = time.monotonic() + STOP_S
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: at once
        while server.poll() is None and time.monotonic() < deadline_s:
            with contextlib.suppress(psutil.NoSuchProcess):
                family |= set(psutil.Process(server.pid).children(recursive=True))
            time.sleep(0.1)
        psutil.wait_procs(family, timeout=5)
    server.kill()
    server.wait()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil checks first that the id is still that process's


def _free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        fail("serve", f"{host} is no address of this machine: --host takes one, or 0.0.0.0 for all of them")
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                fail("serve", f"{host} is no address of this machine: --host takes one, or 0.0.0.0 for all of them")
            return False
    return True
