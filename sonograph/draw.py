"""`sonograph draw`: sends a recording to a running service, shows what is heard and each step, and keeps the picture."""

import base64
import contextlib
import json
import os
import sys
import tempfile
import time
import unicodedata
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""The picture's format by its file's suffix."""
STANDARD = "-"
"""Standard input as the recording, standard output as the picture."""
CONNECT_S = 10.0
SILENCE_S = 60.0
"""Longest wait for the service's next byte: a stream that lives has one every 15 s."""
OWN = {"recording", "output", "url", "as_json"}
"""What the command keeps to itself; every other option is a form field of the same name."""
AT_WORK = {"whisper": "Listening", "diffusion": "Drawing"}
JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian and emoji are written."""


class Failed(Exception):
    """One sentence on why there is no picture."""


def _parameter(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="Parameters of the request")


def draw(
    context: typer.Context,
    recording: Annotated[
        str | None, typer.Argument(help="The recording; `-` or none: what is piped in.", show_default=False)
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="The picture; `-` writes it to standard output.")] = "picture.png",
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything about the picture as JSON.")] = False,
    language: Annotated[
        str | None, _parameter("The language that is spoken: `de`, `German`; without it Whisper listens for it.")
    ] = None,
    task: Annotated[Literal["transcribe", "translate"] | None, _parameter("`translate` draws the words in English.")] = None,
    prompt_prefix: Annotated[str | None, _parameter("Words to draw before what was said: `a watercolour of`.")] = None,
    negative_prompt: Annotated[str | None, _parameter("What the picture should not show.")] = None,
    steps: Annotated[int | None, _parameter("Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, _parameter("How strictly the picture follows the words.")] = None,
    width: Annotated[int | None, _parameter("Pixels, a multiple of 8.")] = None,
    height: Annotated[int | None, _parameter("Pixels, a multiple of 8.")] = None,
    seed: Annotated[int | None, _parameter("The same recording, parameters and seed give the same picture.")] = None,
    output_format: Annotated[
        Literal["png", "jpeg", "webp"] | None, _parameter("The picture's format; without it the suffix of its name decides.")
    ] = None,
    timeout_ms: Annotated[int | None, _parameter("Longest time for the request, in milliseconds.")] = None,
) -> None:
    """Draw what a recording says, with a service that runs: `make serve` starts one here."""
    console = Console(stderr=as_json or output == STANDARD, highlight=False)
    try:
        if as_json and output == STANDARD:
            raise Failed("--json and `-o -` both write to standard output: choose one")
        if output == STANDARD and sys.stdout.isatty():
            raise Failed("a terminal shows no picture: name a file, or pipe `-o -` into something")
        path = None if output == STANDARD else _path(output, output_format)
        form = {name: str(value) for name, value in context.params.items() if name not in OWN and value is not None}
        if path and not output_format:
            form["output_format"] = FORMATS[Path(output).suffix.lower()]
        picture = _follow(_events(url, _read(recording), form), console)
        if path:
            _save(path, picture.encoded)
        else:
            sys.stdout.buffer.write(picture.encoded)
        if as_json:
            print(json.dumps(picture.document(output), indent=2))
        picture.caption(output if path else "The picture", console)
    except Failed as failed:
        _say(Console(stderr=True, highlight=False), Text(f"sonograph: {_printable(str(failed))}"))
        raise typer.Exit(1) from failed
    except KeyboardInterrupt:
        raise typer.Exit(130) from None  # as shells count: 128, and SIGINT's number


class Picture:
    """What the events have told so far. Every text in it is the service's, or the speaker's: not to be trusted."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()
        self.transcript: dict[str, Any] = {}
        self.image: dict[str, Any] = {}
        self.done: dict[str, Any] = {}
        self.encoded = b""

    def document(self, path: str) -> dict[str, Any]:
        """What the service answers as `application/json`, but the path of the picture in place of its bytes."""
        image = {name: value for name, value in self.image["image"].items() if name != "base64"}
        return {
            "request_id": self.done.get("request_id"),
            "transcript": self.transcript.get("text"),
            "language": self.transcript.get("language"),
            "segments": self.transcript.get("segments"),
            "prompt": self.image.get("prompt"),
            "prompt_truncated": self.image.get("prompt_truncated"),
            "seed": self.image.get("seed"),
            "image": {**image, "path": path},
            "timings_ms": self.done.get("timings_ms"),
            "models": self.image.get("models"),
        }

    def caption(self, name: str, console: Console) -> None:
        if self.image.get("prompt_truncated"):
            _say(console, Text("These words are too many for the model, which drew only the first of them.", "yellow"))
        image, took_s = self.image["image"], time.monotonic() - self.started_s
        about = f"{image.get('width')}x{image.get('height')}, seed {self.image.get('seed')}, {took_s:.1f} s"
        _say(console, Text.assemble((_printable(name), "bold"), _printable(f": {about}")))


def _follow(events: Generator[dict[str, Any]], console: Console) -> Picture:
    """Shows the events as they come. Returns what they tell once they end with `done`."""
    picture = Picture()
    columns = SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with contextlib.closing(events), progress:
        task = progress.add_task("Sending", total=None)
        heard = False
        for event in events:
            match event:
                case {"type": "accepted"}:
                    progress.update(task, description=AT_WORK["whisper"])
                case {"type": "queued", "stage": str(stage), "position": int(position)}:
                    waiting = f"Waiting for {stage}, place {position}"
                    progress.update(task, description=_printable(waiting if position > 0 else AT_WORK.get(stage, stage)))
                case {"type": "transcript.delta", "text": str(text), "start": int() | float() as start_s}:
                    _hear(console, start_s, text)
                    progress.update(task, description=AT_WORK["whisper"])
                    heard = True
                case {"type": "transcript", "text": str(text)}:
                    picture.transcript = event
                    if not heard:
                        _hear(console, 0, text)
                    progress.update(task, description=AT_WORK["diffusion"])
                case {"type": "image.step", "step": int(step), "steps": int(steps), **rest}:
                    said = f"{AT_WORK['diffusion']}, step {step} of {steps}{_left(rest.get('eta_ms'))}"
                    progress.update(task, description=said, completed=step, total=steps)
                case {"type": "image", "image": {"base64": str(encoded)}}:
                    picture.image, picture.encoded = event, _decoded(encoded)
                case {"type": "retry", "stage": stage}:
                    _say(console, Text(_printable(f"The service lost a replica: {stage} begins again."), "yellow"))
                    progress.reset(task, description=_printable(f"Waiting for {stage}"), total=None)
                    heard = heard and stage != "whisper"
                case {"type": "done"}:
                    picture.done = event
    if not picture.encoded:
        raise Failed("the service said that it is done, and sent no picture")
    return picture


def _hear(console: Console, start_s: float, text: str) -> None:
    minutes, seconds = divmod(int(start_s), 60)
    _say(console, Text.assemble((f"{minutes:3}:{seconds:02}  ", "dim"), _printable(text.strip())))


def _left(eta_ms: object) -> str:
    return f", {eta_ms / 1000:.0f} s left" if isinstance(eta_ms, int | float) and eta_ms >= 500 else ""


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise Failed("the service sent a picture that cannot be read") from error


def _events(url: str, audio: bytes, form: dict[str, str]) -> Generator[dict[str, Any]]:
    """The service's events up to `done`. Raises Failed for all that keeps a picture from coming, its event `error` too."""
    import httpx  # here, since `sonograph --help` needs none of it
    import httpx_sse

    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    local = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}  # never by a proxy
    try:
        with (
            httpx.Client(timeout=timeout, mounts=local) as client,
            httpx_sse.connect_sse(client, "POST", f"{url.rstrip('/')}/graph", files={"file": audio}, data=form) as source,
        ):
            _check(source.response, url)
            for event in source.iter_sse():
                if not event.data:  # a comment's empty line
                    continue
                data = json.loads(event.data)
                if data["type"] == "error":
                    raise Failed(_sentence(data["problem"]))
                yield data
                if data["type"] == "done":
                    return
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Failed(f"nothing answers at {url}: `make serve` starts the service") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Failed(f"{url} is not the address of a service, as http://127.0.0.1:8000 is") from error
    except httpx.TimeoutException as error:
        raise Failed(f"{url} has been silent for {SILENCE_S:.0f} s: its ingress hangs, or the network is cut") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"{url} sent what cannot be read") from error
    except httpx.HTTPError as error:
        raise Failed(f"{url} ended the connection in the middle, so its ingress died: ask again") from error
    raise Failed(f"{url} ended its events in the middle, so its ingress died: ask again")


def _check(response: Any, url: str) -> None:
    """Raises Failed unless this is a stream of events."""
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if kind == "application/problem+json":
        response.read()
        raise Failed(_sentence(response.json()))
    if response.status_code != 200 or kind != "text/event-stream":
        raise Failed(f"{url}/graph answers {response.status_code} {kind}, which is not Sonograph's events: is this its address?")


def _sentence(problem: dict[str, Any]) -> str:
    return f"{problem['detail']} ({problem['code']})"


def _read(recording: str | None) -> bytes:
    if recording is None and sys.stdin.isatty():
        raise Failed("no recording: name a file, or pipe one in")
    try:
        return sys.stdin.buffer.read() if recording in (None, STANDARD) else Path(str(recording)).read_bytes()
    except OSError as error:
        raise Failed(f"cannot read {recording or 'standard input'}: {error.strerror}") from error


def _path(output: str, output_format: str | None) -> Path:
    """Where the picture goes, links followed. Raises Failed where it could not be written."""
    path = Path(os.path.realpath(output))
    if output_format is None and Path(output).suffix.lower() not in FORMATS:
        raise Failed(f"{output} does not say the picture's format: end it with {', '.join(FORMATS)}, or give --output-format")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists() and not path.is_file():
            raise Failed(f"{output} is there, and not a file")
    except OSError as error:
        raise Failed(f"cannot write {output}: {error.strerror}") from error
    return path


def _save(path: Path, encoded: bytes) -> None:
    """The whole picture or none: written beside, then renamed."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(encoded)
        part.replace(path)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _say(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _printable(text: str) -> str:
    """What could steer a terminal or turn the direction of reading is escaped."""
    return "".join(character.encode("unicode_escape").decode() if _steers(character) else character for character in text)


def _steers(character: str) -> bool:
    return character not in JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
