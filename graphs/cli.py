"""`sonograph`: one command with verbs."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml
from rich.console import Console

from graphs.drain import drain, wait_until_idle
from graphs.draw import draw
from kuberay.commands import doctor, render

HERE = Path(__file__).parent
SAMPLE = HERE / "samples" / "red-apple.wav"
START_S = 300.0
"""Longest wait until every room is ready; a large model from a slow disk takes minutes."""
STOP_S = 60.0

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Sonograph: speech in, picture out.")
console = Console(highlight=False)


for verb in (draw, render, doctor, drain):
    cli.command()(verb)


@cli.callback()
def sonograph() -> None:
    pass


@cli.command()
def serve(
    config: Annotated[Path, typer.Option(help="Serve config of the service.")] = HERE / "local.yaml",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
) -> None:
    """Serve on this machine until Ctrl-C: what `serve run graphs/local.yaml` does, with a word on each step."""
    if not _free(port):
        _fail(f"port {port} is in use, perhaps by another `make serve`: stop that one, or choose another: PORT=8001 make serve")
    started_s = time.monotonic()
    # A script's `make serve &` has SIGINT ignored, and the server would inherit that: then nothing could end it in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.NamedTemporaryFile("w", prefix="sonograph-", suffix=".yaml") as file:
        file.write(_on_port(config, port))
        file.flush()
        log = Path(tempfile.gettempdir()) / f"sonograph-{port}.log"
        with log.open("w") as output:
            # `local`: a cluster of its own, also where another one runs on this machine.
            command = [str(Path(sys.prefix) / "bin" / "serve"), "run", "--address", "local", file.name]
            server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _wait(server, port, log)
            _greet(config, port, time.monotonic() - started_s)
            status = server.wait()
            _fail(f"the server ended by itself (status {status}): its last words are in {log}")
        except KeyboardInterrupt:
            console.print("\nStopping: what is in flight is finished first.")
        finally:
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: at once
                wait_until_idle(port, STOP_S)
            _stop(server)
    console.print("Stopped.")


def _on_port(config: Path, port: int) -> str:
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["http_options"] = {**content.get("http_options", {}), "port": port}
    return yaml.safe_dump(content)


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when every room is ready; says what it waits for meanwhile."""
    said = ""
    deadline_s = time.monotonic() + START_S
    with console.status("Starting Ray ..."):
        console.print(f"Starting Ray and Serve (their log: {log}) ...")
        while time.monotonic() < deadline_s:
            if server.poll() is not None:
                _fail(f"the server ended while it started (status {server.returncode}): its last words are in {log}")
            waiting = _unready(port)
            if waiting == "":
                return
            if waiting is not None and waiting != said:
                console.print(f"Waiting: {waiting}", soft_wrap=True)
                said = waiting
            time.sleep(0.5)
    _fail(f"the rooms were not ready within {START_S:.0f} s ({said}): the server's log is {log}")


def _unready(port: int) -> str | None:
    """What /readyz names; empty when all is ready, None when nothing answers yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        try:
            return str(json.load(error)["detail"])
        except (ValueError, KeyError, TypeError):
            return None
    except OSError:
        return None


def _greet(config: Path, port: int, took_s: float) -> None:
    from graphs.settings import VoiceToImageSettings  # here, since it loads Ray

    (application,) = yaml.safe_load(config.read_text(encoding="utf-8"))["applications"]
    settings = VoiceToImageSettings.model_validate(application.get("args") or {})
    sample = SAMPLE.relative_to(Path.cwd()) if SAMPLE.is_relative_to(Path.cwd()) else SAMPLE
    console.print(f"Whisper: {settings.whisper.model}. Stable Diffusion: {settings.diffusion.card()}", soft_wrap=True)
    console.print(f"Ready after {took_s:.0f} s on [bold]http://127.0.0.1:{port}[/bold] (its API: /docs). Ctrl-C stops it. Try:\n")
    console.print(f"  curl -F file=@{sample} http://127.0.0.1:{port}/graph -o picture.png\n", soft_wrap=True)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Serve shuts down on SIGINT, finishing what is in flight. What Ray leaves behind, interrupted in its start, is ended too."""
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
            process.kill()  # psutil looks first whether the id is still that process's


def _free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _fail(sentence: str) -> None:
    Console(stderr=True, highlight=False).print(f"sonograph: {sentence}", soft_wrap=True)
    raise typer.Exit(1)


def main() -> None:
    cli()
