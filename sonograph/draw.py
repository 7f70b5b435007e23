"""`sonograph draw`: sends a recording to a running service, shows the transcript and each step, and saves the image."""

import base64
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from deployments.roles.image_formats import IMAGE_FORMATS, FormatName
from sonograph import options
from sonograph.addresses import URL
from sonograph.errors import Failed, fail
from sonograph.files import replace_file
from sonograph.keys import api_key
from sonograph.terminal import printable

FORMATS = {**{f".{name}": name for name in IMAGE_FORMATS}, ".jpg": "jpeg"}
"""The image's format by its file's suffix."""
STANDARD = "-"
"""Standard input as the recording, standard output as the image."""
OWN = {"recording", "output", "url", "as_json", "key_file"}
"""Options of the command itself; every other option is a form field of the same name."""


def _parameter(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="Parameters of the request")


def draw(
    context: typer.Context,
    recording: Annotated[
        str | None, typer.Argument(help="The recording. Default: standard input, which is also `-`.", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="File of the picture; `-` writes it to standard output.")
    ] = "picture.png",
    url: options.Url = URL,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with an API key, or its name and it. Default: the variable SONOGRAPH_KEY.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything about the picture as JSON.")] = False,
    language: Annotated[str | None, _parameter("Spoken language: `de`, `German`. Default: Whisper detects it.")] = None,
    task: Annotated[Literal["transcribe", "translate"] | None, _parameter("`translate` draws the words in English.")] = None,
    prompt_prefix: Annotated[str | None, _parameter("Words to draw before the transcript: `a watercolour of`.")] = None,
    negative_prompt: Annotated[str | None, _parameter("Words for things that the picture should not show.")] = None,
    steps: Annotated[int | None, _parameter("Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, _parameter("Strength with which the picture follows the words.")] = None,
    width: Annotated[int | None, _parameter("Pixels, a multiple of 8.")] = None,
    height: Annotated[int | None, _parameter("Pixels, a multiple of 8.")] = None,
    seed: Annotated[int | None, _parameter("The same recording, parameters and seed give the same picture.")] = None,
    output_format: Annotated[FormatName | None, _parameter("The picture's format. Default: that of its file's suffix.")] = None,
    timeout_ms: Annotated[int | None, _parameter("Longest time for the request, in milliseconds.")] = None,
) -> None:
    """Draw the words of a recording, with a running service: `sonograph serve` starts one on this machine."""
    from sonograph.events import events  # loads httpx

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
        key = api_key(key_file)
        drawing = _follow(events(url, _read(recording), form, key), console)
        if path:
            _save(path, drawing.encoded)
        else:
            sys.stdout.buffer.write(drawing.encoded)
        if as_json:
            print(json.dumps(drawing.document(output), indent=2))
        drawing.caption(output if path else "The picture", console)
    except Failed as error:
        fail("draw", error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None  # as shells count: 128, and SIGINT's number


class Drawing:
    """The content of the events so far. Every text in it comes from the service or the speaker and is not trusted."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()
        self.transcript: dict[str, Any] = {}
        self.image: dict[str, Any] = {}
        self.done: dict[str, Any] = {}
        self.encoded = b""

    def document(self, path: str) -> dict[str, Any]:
        """The service's answer as `application/json`, with the image's path in place of its bytes."""
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
            _print(console, Text("The transcript is too long for the model, which drew only its first words.", "yellow"))
        image, took_s = self.image["image"], time.monotonic() - self.started_s
        about = f"{image.get('width')}x{image.get('height')}, seed {self.image.get('seed')}, {took_s:.1f} s"
        _print(console, Text.assemble((printable(name), "bold"), printable(f": {about}")))


def _follow(received: Generator[dict[str, Any]], console: Console) -> Drawing:
    """Show the events as they come. Returns the drawing once they end with `done`."""
    drawing = Drawing()
    columns = SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with contextlib.closing(received), progress:
        task = progress.add_task("Sending", total=None)
        activity, segments_shown = "Transcribing", False
        for event in received:
            match event:
                case {"type": "accepted"}:
                    progress.update(task, description=activity)
                case {"type": "queued", "stage": str(stage), "position": int(position)}:
                    waiting = f"Waiting for {stage}, place {position}"
                    progress.update(task, description=printable(waiting) if position > 0 else activity)
                case {"type": "transcript.delta", "text": str(text), "start": int() | float() as start_s}:
                    _print_segment(console, start_s, text)
                    progress.update(task, description=activity)
                    segments_shown = True
                case {"type": "transcript", "text": str(text)}:
                    drawing.transcript = event
                    if not segments_shown:
                        _print_segment(console, 0, text)
                    activity = "Drawing"
                    progress.update(task, description=activity)
                case {"type": "image.step", "step": int(step), "steps": int(steps), **rest}:
                    description = f"{activity}, step {step} of {steps}{_left(rest.get('eta_ms'))}"
                    progress.update(task, description=description, completed=step, total=steps)
                case {"type": "image", "image": {"base64": str(encoded)}}:
                    drawing.image, drawing.encoded = event, _decoded(encoded)
                case {"type": "retry", "stage": stage}:
                    _print(console, Text(printable(f"The service lost a replica: {stage} begins again."), "yellow"))
                    progress.reset(task, description=printable(f"Waiting for {stage}"), total=None)
                    segments_shown = segments_shown and bool(drawing.transcript)
                case {"type": "done"}:
                    drawing.done = event
    if not drawing.encoded:
        raise Failed("the service ended its events, and sent no picture")
    return drawing


def _print_segment(console: Console, start_s: float, text: str) -> None:
    minutes, seconds = divmod(int(start_s), 60)
    _print(console, Text.assemble((f"{minutes:3}:{seconds:02}  ", "dim"), printable(text.strip())))


def _left(eta_ms: object) -> str:
    return f", {eta_ms / 1000:.0f} s left" if isinstance(eta_ms, int | float) and eta_ms >= 500 else ""


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise Failed("the service sent a picture that cannot be read") from error


def _read(recording: str | None) -> bytes:
    if recording is None and sys.stdin.isatty():
        raise Failed("no recording: name a file, or pipe one in")
    try:
        return sys.stdin.buffer.read() if recording in (None, STANDARD) else Path(str(recording)).read_bytes()
    except OSError as error:
        raise Failed(f"cannot read {recording or 'standard input'}: {error.strerror}") from error


def _path(output: str, output_format: str | None) -> Path:
    """The image's path, links followed. Raises Failed where it cannot be written."""
    path = Path(os.path.realpath(output))
    if output_format is None and Path(output).suffix.lower() not in FORMATS:
        raise Failed(f"{output} does not name the picture's format: end it with {', '.join(FORMATS)}, or use --output-format")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists() and not path.is_file():
            raise Failed(f"{output} exists, and is no file")
    except OSError as error:
        raise Failed(f"cannot write {output}: {error.strerror}") from error
    return path


def _save(path: Path, encoded: bytes) -> None:
    try:
        replace_file(path, encoded)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from error


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
