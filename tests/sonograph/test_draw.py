"""`sonograph draw` against a server with the contract of `POST /graph` and its events, and without a server."""

import asyncio
import base64
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from typer.main import get_command
from typer.testing import CliRunner, Result

from graphs.http.parameters import validate
from graphs.voice_to_image import DrawParameters
from sonograph.cli import cli
from testing.fakes import PNG
from testing.service import ROOT, free_port

pytestmark = pytest.mark.slow

RECORDING = b"RIFF, not really"
WORDS = "Ein grüner Apfel, 語\u2028と🦊"
CHUNK_BYTES = 7
"""So small that chunks end within events, lines and characters."""
OPTIONS = {
    "language": "de",
    "task": "translate",
    "prompt_prefix": "a watercolour of",
    "negative_prompt": "fog",
    "steps": 7,
    "guidance_scale": 2.5,
    "width": 64,
    "height": 128,
    "seed": 0,
    "output_format": "webp",
    "timeout_ms": 5000,
}


def transcript_events(text: str = WORDS) -> list[dict[str, Any]]:
    segments = [{"start": 0.0, "end": 1.5, "text": text}]
    return [
        {"type": "accepted", "deadline_ms": 120000},
        {"type": "queued", "stage": "whisper", "position": 2},
        {"type": "transcript.delta", "text": f" {text}", "start": 63.5, "end": 65.0},
        {"type": "transcript", "text": text, "language": "de", "segments": segments},
    ]


def image_events(encoded: bytes = PNG) -> list[dict[str, Any]]:
    image = {"media_type": "image/png", "base64": base64.b64encode(encoded).decode(), "width": 64, "height": 32}
    return [
        *({"type": "image.step", "step": step, "steps": 4, "eta_ms": 1000.0 * (4 - step)} for step in (1, 2, 3, 4)),
        {"type": "image", "image": image, "prompt": WORDS, "prompt_truncated": False, "seed": 7, "models": {"whisper": "tiny"}},
    ]


DONE = {"type": "done", "timings_ms": {"whisper": 20.0}}
PROBLEM = {"title": "Stopped", "status": 503, "detail": "the queue of whisper is full", "code": "overloaded", "stage": "whisper"}


class FakeService:
    """Server that answers with the events that a test sets, and keeps the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: list[dict[str, Any]] = [*transcript_events(), *image_events(), DONE]
        self.end = ""
        """The end of the stream: empty, "hang" until the client disconnects, or "break" the connection."""
        self.answer: Response | None = None
        self.received: list[dict[str, Any]] = []
        self.left = threading.Event()
        """Set once an answer has ended; only its client ends one that hangs."""

    async def graph(self, request: Request) -> Response:
        async with request.form() as form:
            fields = dict(form)
            assert request.headers["Accept"] == "text/event-stream"
            assert isinstance(form["file"], UploadFile)
            self.authorization = request.headers.get("authorization")
            self.received.append({**fields, "file": await form["file"].read()})
        over = BackgroundTask(self.left.set)
        return self.answer or StreamingResponse(self.stream(request), media_type="text/event-stream", background=over)

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        content = b": keep-alive\n\n"
        for number, event in enumerate(self.events):
            data = json.dumps({**event, "request_id": "r-1", "sequence": number}, ensure_ascii=False)
            content += f"event: {event['type']}\nid: {number}\ndata: {data}\n\n: keep-alive\n\n".encode(errors="surrogatepass")
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
            await asyncio.sleep(0)
        if self.end == "hang":
            assert (await request.receive())["type"] == "http.disconnect"
        elif self.end == "break":
            raise ConnectionAbortedError


@pytest.fixture
def service() -> Iterator[FakeService]:
    port = free_port()
    service = FakeService(f"http://127.0.0.1:{port}")
    app = Starlette(routes=[Route("/graph", service.graph, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield service
    server.should_exit = True
    thread.join()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return tmp_path / "new" / "picture.png"


@pytest.fixture
def draw(service: FakeService, picture: Path, tmp_path: Path) -> Callable[..., Result]:
    """`sonograph draw` of a recording in a file, by default to `picture`."""
    (tmp_path / "recording.wav").write_bytes(RECORDING)
    picture.parent.mkdir()

    def draw(*arguments: str, recording: tuple[str, ...] = (str(tmp_path / "recording.wav"),), **more: Any) -> Result:
        output = () if "-o" in arguments else ("-o", str(picture))
        url = () if "--url" in arguments else ("--url", service.url)
        return CliRunner().invoke(cli, ["draw", *recording, *output, *url, *arguments], **more)

    return draw


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_transcript_is_shown_and_the_image_saved(service: FakeService, draw: Callable[..., Result], picture: Path) -> None:
    result = draw()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == "  1:03  Ein grüner Apfel, 語\\u2028と🦊"
    assert re.fullmatch(rf"{picture}: 64x32, seed 7, \d+\.\d s", result.stdout.splitlines()[-1])
    assert picture.read_bytes() == PNG
    assert files(picture.parent) == ["picture.png"]
    assert service.received == [{"file": RECORDING, "output_format": "png"}]


def test_a_transcript_that_comes_whole_is_shown_once(service: FakeService, draw: Callable[..., Result]) -> None:
    service.events = [event for event in service.events if event["type"] != "transcript.delta"]
    assert draw().stdout.count("Apfel") == 1


def test_every_parameter_of_a_request_for_one_picture_is_an_option() -> None:
    """The command writes one picture, and shows no previews."""
    command = get_command(cli).commands["draw"]
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    wanted = {f"--{name.replace('_', '-')}" for name in DrawParameters.model_fields if name not in ("previews", "n")}
    assert options - {"--output", "--url", "--key-file", "--json", "--help"} == wanted


def test_every_option_reaches_the_service(service: FakeService, draw: Callable[..., Result]) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    assert draw(*options).exit_code == 0
    (fields,) = service.received
    fields.pop("file")
    assert fields.keys() == OPTIONS.keys()
    assert validate(fields.items(), DrawParameters).model_dump(include=set(OPTIONS)) == OPTIONS


@pytest.mark.parametrize(
    ("name", "options", "format"),
    [
        ("a.png", [], "png"),
        ("a.JPG", [], "jpeg"),
        ("a.jpeg", [], "jpeg"),
        ("a.b.webp", [], "webp"),
        ("a.png", ["--output-format", "webp"], "webp"),
        ("a", ["--output-format", "jpeg"], "jpeg"),
    ],
)
def test_the_suffix_decides_the_format_unless_an_option_does(
    service: FakeService, draw: Callable[..., Result], tmp_path: Path, name: str, options: list[str], format: str
) -> None:
    assert draw("-o", str(tmp_path / name), *options).exit_code == 0
    assert service.received[0]["output_format"] == format
    assert (tmp_path / name).read_bytes() == PNG


def test_a_link_keeps_its_name_and_its_target_gets_the_picture(
    service: FakeService, draw: Callable[..., Result], picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.webp").symlink_to(picture)
    assert draw("-o", str(tmp_path / "link.webp")).exit_code == 0
    assert service.received[0]["output_format"] == "webp"
    assert (tmp_path / "link.webp").is_symlink()
    assert picture.read_bytes() == PNG


@pytest.mark.parametrize("recording", [(), ("-",)])
def test_a_recording_can_be_piped_in(service: FakeService, draw: Callable[..., Result], recording: tuple[str, ...]) -> None:
    assert draw(recording=recording, input=b"\xff\x00 sound").exit_code == 0
    assert service.received[0]["file"] == b"\xff\x00 sound"


def test_json_is_one_document_with_the_path_for_the_bytes(draw: Callable[..., Result], picture: Path) -> None:
    result = draw("--json")
    assert json.loads(result.stdout) == {
        "request_id": "r-1",
        "transcript": WORDS,
        "language": "de",
        "segments": [{"start": 0.0, "end": 1.5, "text": WORDS}],
        "prompt": WORDS,
        "prompt_truncated": False,
        "seed": 7,
        "image": {"media_type": "image/png", "width": 64, "height": 32, "path": str(picture)},
        "timings_ms": {"whisper": 20.0},
        "models": {"whisper": "tiny"},
    }
    assert "grüner" in result.stderr
    assert picture.read_bytes() == PNG


def test_a_dash_writes_the_picture_alone_to_standard_output(service: FakeService, draw: Callable[..., Result]) -> None:
    result = draw("-o", "-")
    assert result.stdout_bytes == PNG
    assert "grüner" in result.stderr
    assert "output_format" not in service.received[0]


def test_json_and_picture_do_not_share_standard_output(service: FakeService, draw: Callable[..., Result]) -> None:
    result = draw("--json", "-o", "-")
    assert (result.exit_code, result.stdout, service.received) == (1, "", [])


@pytest.mark.parametrize("content", ["secret-1\n", "alice secret-1", "# of the shared service\nalice secret-1\n\n"])
def test_a_key_comes_from_a_file(service: FakeService, draw: Callable[..., Result], tmp_path: Path, content: str) -> None:
    (tmp_path / "key.txt").write_text(content)
    result = draw("--key-file", str(tmp_path / "key.txt"), env={"SONOGRAPH_KEY": "another"})
    assert (result.exit_code, service.authorization) == (0, "Bearer secret-1")
    assert "key_file" not in service.received[0]


def test_a_key_comes_from_the_environment_or_none_is_sent(service: FakeService, draw: Callable[..., Result]) -> None:
    assert draw(env={"SONOGRAPH_KEY": "secret-2"}).exit_code == 0
    assert service.authorization == "Bearer secret-2"
    assert draw(env={"SONOGRAPH_KEY": ""}).exit_code == 0
    assert service.authorization is None


@pytest.mark.parametrize("content", [b"", b"two lines\nof keys", b"three words here", b"n\xc3\xb6", b"\xff\xfe", b"a\x1b[2J"])
def test_a_file_without_one_key_is_refused_before_anything_is_sent(
    service: FakeService, draw: Callable[..., Result], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "key.txt").write_bytes(content)
    result = draw("--key-file", str(tmp_path / "key.txt"))
    assert (result.exit_code, service.received) == (1, [])
    assert "key.txt has to hold one API key" in result.stderr or "it is no text" in result.stderr
    assert draw("--key-file", str(tmp_path / "none.txt")).stderr.startswith("sonograph draw: cannot read")


def test_a_retry_voids_the_transcript_so_far(service: FakeService, draw: Callable[..., Result], picture: Path) -> None:
    retry = {"type": "retry", "stage": "whisper"}
    again = [event for event in transcript_events("zwei") if event["type"] != "transcript.delta"]
    service.events = [
        *transcript_events("eins")[:3],
        retry,
        *again,
        *image_events(b"old"),
        {**retry, "stage": "diffusion"},
        *image_events(b"new"),
        DONE,
    ]
    lines = draw().stdout.splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["eins", "again.", "zwei"]
    assert "diffusion begins again" in lines[3]
    assert picture.read_bytes() == b"new"


def test_a_truncated_prompt_is_reported(service: FakeService, draw: Callable[..., Result]) -> None:
    for event in service.events:
        event.update({"prompt_truncated": True} if event["type"] == "image" else {})
    assert "only its first words" in draw().stdout


def an_error(service: FakeService) -> str:
    service.events = [*transcript_events(), *image_events(), {"type": "error", "problem": PROBLEM}]
    return "the queue of whisper is full (overloaded)"


def a_problem(service: FakeService) -> str:
    service.answer = JSONResponse(PROBLEM, 503, media_type="application/problem+json")
    return "the queue of whisper is full (overloaded)"


def a_cut(service: FakeService) -> str:
    service.events = [*transcript_events(), *image_events()]
    return "ended its events in the middle, so its ingress died"


def a_break(service: FakeService) -> str:
    service.events, service.end = [*transcript_events(), *image_events()], "break"
    return "ended the connection, so its ingress died"


def no_picture(service: FakeService) -> str:
    service.events = [*transcript_events(), DONE]
    return "sent no picture"


def an_unreadable_event(service: FakeService) -> str:
    service.events = [{"type": "error", "problem": None}]
    return "sent an event that cannot be read"


def an_unreadable_picture(service: FakeService) -> str:
    for event in service.events:
        event.update({"image": {"base64": "é"}} if event["type"] == "image" else {})
    return "a picture that cannot be read"


def another_server(service: FakeService) -> str:
    service.answer = PlainTextResponse("hello")
    return "answers 200 text/plain, which is not Sonograph's events"


@pytest.mark.parametrize(
    "trouble", [an_error, a_problem, a_cut, a_break, no_picture, an_unreadable_event, an_unreadable_picture, another_server]
)
def test_trouble_is_one_sentence_and_leaves_the_old_picture(
    service: FakeService, draw: Callable[..., Result], picture: Path, trouble: Callable[[FakeService], str]
) -> None:
    picture.write_bytes(b"old")
    sentence = trouble(service)
    result = draw()
    assert result.exit_code == 1
    assert result.stderr.startswith("sonograph draw: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr
    assert files(picture.parent) == ["picture.png"]
    assert picture.read_bytes() == b"old"


def test_where_nothing_listens_the_sentence_names_the_address_and_the_command_that_starts_a_service(
    draw: Callable[..., Result],
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = draw("--url", url)
    assert result.exit_code == 1
    assert result.stderr == f"sonograph draw: nothing answers at {url}: `sonograph serve` starts a service on this machine\n"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "nonsense", "ftp://127.0.0.1", "http://127.0.0.1:port", ""])
def test_an_invalid_address_is_refused(draw: Callable[..., Result], url: str) -> None:
    result = draw("--url", url)
    assert result.exit_code == 1
    assert "is not the address of a service" in result.stderr


@pytest.mark.parametrize("output", ["missing/a.png", "recording.wav/a.png", "folder.png", "picture", "picture.gif"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_sent(
    service: FakeService, draw: Callable[..., Result], tmp_path: Path, output: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    before = files(tmp_path)
    result = draw("-o", str(tmp_path / output))
    assert result.exit_code == 1
    assert result.stderr.startswith("sonograph draw: ")
    assert output in result.stderr
    assert service.received == []
    assert files(tmp_path) == before


@pytest.mark.parametrize("recording", ["missing.wav", "new"])
def test_a_recording_that_cannot_be_read_is_named(draw: Callable[..., Result], tmp_path: Path, recording: str) -> None:
    result = draw(recording=(str(tmp_path / recording),))
    assert result.exit_code == 1
    assert re.fullmatch(rf"sonograph draw: cannot read \S+/{recording}: .+\n", result.stderr)


def test_characters_that_steer_a_terminal_are_escaped(service: FakeService, draw: Callable[..., Result]) -> None:
    evil = "a\x1b]0;title\x07\x9b2J\r\x08\x7f\u202e\u200b[red]b[/red] :apple: \u200d"
    shown = r"a\x1b]0;title\x07\x9b2J\r\x08\x7f\u202e\u200b[red]b[/red] :apple: " + "\u200d"
    service.events = [
        *transcript_events(evil),
        {"type": "retry", "stage": evil},
        {"type": "error", "problem": {"detail": evil, "code": evil}},
    ]
    result = draw()
    assert f"  1:03  {shown}\n" in result.stdout
    assert f"{shown} begins again" in result.stdout
    assert result.stderr == f"sonograph draw: {shown} ({shown})\n"


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process of its own, in `folder`."""
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "draw", *arguments]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_closes_the_connection_and_leaves_no_file(service: FakeService, tmp_path: Path) -> None:
    service.events, service.end = [*transcript_events(), *image_events()], "hang"
    with started(tmp_path, "--url", service.url, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(RECORDING)
        process.stdin.close()
        assert "Apfel" in process.stdout.readline().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert service.left.wait(30)
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()
    assert files(tmp_path) == []


def test_a_terminal_shows_each_step_and_a_picture_by_the_default_name(service: FakeService, tmp_path: Path) -> None:
    service.events = [*transcript_events(), *image_events()[:3]]
    service.end = "hang"
    (tmp_path / "recording.wav").write_bytes(RECORDING)
    with on_a_terminal(tmp_path, "recording.wav", "--url", service.url) as (process, terminal):
        assert "Apfel" in read_until(terminal, "Drawing, step 3 of 4, 1 s left")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    service.events, service.end = [*transcript_events(), *image_events(), DONE], ""
    with on_a_terminal(tmp_path, "recording.wav", "--url", service.url) as (process, terminal):
        assert "Apfel" in read_until(terminal, "picture.png")
        assert process.wait(30) == 0
    assert files(tmp_path) == ["picture.png", "recording.wav"]


@pytest.mark.parametrize(("arguments", "sentence"), [([], "no recording"), (["-", "-o", "-"], "a terminal shows no picture")])
def test_bytes_neither_come_from_a_terminal_nor_go_to_one(
    service: FakeService, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    with on_a_terminal(tmp_path, "--url", service.url, *arguments) as (process, _):
        assert process.stderr
        assert process.stderr.read().decode().startswith(f"sonograph draw: {sentence}: name a file")
        assert process.wait(30) == 1
    assert service.received == []


@pytest.mark.parametrize("option", ["--output", "--url", "--key-file", "--json"])
def test_each_option_that_is_no_parameter_is_documented(option: str) -> None:
    rows = [line for line in (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert any(f"`{option}`" in row for row in rows)


@contextlib.contextmanager
def on_a_terminal(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command with a terminal as its standard input and output, and that terminal's other end."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    try:
        with started(folder, *arguments, stdin=its, stdout=its, env=environment) as process:
            yield process, ours
    finally:
        os.close(its)
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    shown = b""
    while text not in shown.decode(errors="ignore"):
        shown += os.read(terminal, 4096)
    return shown.decode(errors="ignore")


def test_the_command_loads_neither_ray_nor_a_model() -> None:
    heavy = ["ray", "torch", "fastapi", "pydantic", "numpy", "httpx"]
    program = f"import sys, sonograph.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
