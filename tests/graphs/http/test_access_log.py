"""Access log: one line per request, which no text of a request can break."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable, NoSpeech
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.http.access_log import DETAIL_CHARACTERS, Entry, logged
from graphs.tracing.trace import Trace
from testing.fakes import CHARACTERS, FakeService


class Lines(logging.Handler):
    """Handler that keeps the access log's lines."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.raw: list[str] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.levels.append(record.levelno)
        self.raw.append(record.getMessage())

    def only(self) -> dict[str, Any]:
        (line,) = self.raw
        return dict(json.loads(line))


@pytest.fixture
def lines() -> Iterator[Lines]:
    log = logging.getLogger("ray.serve")
    handler, level = Lines(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def log_request(
    id: str = "abc", transcripts: bool = False, on_done: Callable[[Entry], None] = lambda entry: None
) -> AbstractContextManager[Entry]:
    return logged(RequestContext(id, TimeLeft(50)), "/graph", transcripts, on_done)


def test_the_line_of_an_answered_request(lines: Lines) -> None:
    with log_request() as entry:
        context = entry.context
        context.took(decode=1.04, whisper=20.06)
        context.notes |= {"audio_s": 3.5, "transcript": "a red apple", "seed": 7, "steps": 12}
        context.models["whisper"] = "tiny.en"
        context.retried.append("whisper")
        context.degraded["diffusion"] = "model_unavailable: gone"
        entry.context.key = "alice"
    line = lines.only()
    assert line.pop("took_ms") >= 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "INFO",
        "request_id": "abc",
        "trace_id": None,
        "span_id": None,
        "route": "/graph",
        "key": "alice",
        "status": 200,
        "code": None,
        "detail": None,
        "stage": None,
        "cancelled": False,
        "retried": ["whisper"],
        "degraded": ["diffusion"],
        "models": {"whisper": "tiny.en"},
        "timings_ms": {"decode": 1.0, "whisper": 20.1},
        "audio_s": 3.5,
        "steps": 12,
        "seed": 7,
    }


def test_the_line_has_the_ids_of_the_requests_trace(lines: Lines) -> None:
    with log_request() as entry:
        entry.context.trace = trace = Trace("POST /graph")
    line = lines.only()
    assert (line["trace_id"], line["span_id"]) == (trace.id, trace.root.id)


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (NoSpeech("silence"), logging.INFO),
        (ModelUnavailable("gone"), logging.WARNING),
        (DeadlineExceeded("late"), logging.INFO),
        (RuntimeError("defect"), logging.ERROR),
    ],
    ids=["client's", "unavailable", "late", "defect"],
)
def test_the_level_is_higher_where_the_service_alone_failed_and_highest_for_a_defect(
    lines: Lines, error: Exception, level: int
) -> None:
    with pytest.raises(type(error)), log_request():
        raise error
    assert lines.levels == [level]
    assert lines.only()["level"] == logging.getLevelName(level)


def test_an_unknown_field_is_omitted(lines: Lines) -> None:
    with log_request():
        pass
    assert not {"audio_s", "steps", "seed", "transcript"} & set(lines.only())


def test_the_transcript_is_logged_only_if_the_setting_allows_it(lines: Lines) -> None:
    for transcripts in (False, True):
        with log_request(transcripts=transcripts) as entry:
            entry.context.notes["transcript"] = "a red apple"
    without, with_transcript = lines.raw
    assert "apple" not in without
    assert "transcript" not in json.loads(without)
    assert json.loads(with_transcript)["transcript"] == "a red apple"


def test_the_line_of_a_refused_request(lines: Lines) -> None:
    error = NoSpeech("silence")
    error.stage = "whisper"
    with pytest.raises(NoSpeech), log_request():
        raise error
    line = lines.only()
    assert (line["status"], line["code"], line["stage"], line["cancelled"]) == (422, "no_speech", "whisper", False)
    assert line["detail"] == "silence"


def test_the_sentence_of_a_refusal_is_short_and_one_line_whatever_the_client_sent(lines: Lines) -> None:
    with pytest.raises(InvalidInput), log_request():
        raise InvalidInput("x\n" * 1000)
    assert len(lines.only()["detail"]) == DETAIL_CHARACTERS
    assert "\n" not in lines.raw[0]


@pytest.mark.parametrize("defect", [DeploymentError("secret"), RuntimeError("secret")])
def test_a_defect_is_internal_and_its_reason_is_not_in_the_line(lines: Lines, defect: Exception) -> None:
    with pytest.raises(type(defect)), log_request():
        raise defect
    line = lines.only()
    assert (line["status"], line["code"], line["stage"]) == (500, "internal", None)
    assert "secret" not in lines.raw[0]


@pytest.mark.parametrize("end", [asyncio.CancelledError, GeneratorExit, ClientDisconnect])
def test_the_line_of_a_client_that_disconnects(lines: Lines, end: type[BaseException]) -> None:
    def work() -> None:
        with log_request() as entry:
            entry.context.took(decode=2.0)
            raise end

    with pytest.raises(end):
        work()
    line = lines.only()
    assert (line["status"], line["code"], line["cancelled"]) == (499, None, True)
    assert line["timings_ms"] == {"decode": 2.0}


def test_a_stream_that_ends_with_an_error_event_has_the_errors_status(lines: Lines) -> None:
    with log_request() as entry:
        entry.failed(NoSpeech("silence"))
    assert lines.only()["status"] == 422


async def test_a_stream_whose_client_disconnects_writes_its_line_when_it_is_closed(lines: Lines) -> None:
    async def events() -> Any:
        with log_request():
            yield 1
            yield 2

    stream = events()
    await anext(stream)
    await stream.aclose()
    assert lines.only()["cancelled"] is True


def test_no_character_of_a_request_ends_the_line_or_reaches_a_terminal(lines: Lines) -> None:
    with log_request(CHARACTERS, transcripts=True) as entry:
        entry.context.notes["transcript"] = CHARACTERS + "%s %(x)s \\u000a {}"
        entry.context.took(**{CHARACTERS: 1.0})
    (raw,) = lines.raw
    assert all(" " <= character <= "~" for character in raw)
    line = json.loads(raw)
    assert line["transcript"] == CHARACTERS + "%s %(x)s \\u000a {}"
    assert line["request_id"] == CHARACTERS


@pytest.mark.parametrize("error", [None, NoSpeech("silence"), RuntimeError("defect"), asyncio.CancelledError()])
def test_the_outcome_is_complete_when_it_is_counted(lines: Lines, error: BaseException | None) -> None:
    counted: list[tuple[int, str | None, bool]] = []

    def work() -> None:
        with log_request(on_done=lambda entry: counted.append((entry.status, entry.code, entry.cancelled))):
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    line = lines.only()
    assert counted == [(line["status"], line["code"], line["cancelled"])]


ROUTES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("/graph", {"files": {"file": b"sound"}}, {"audio_s", "seed", "steps"}),
    ("/listen", {"files": {"file": b"sound"}}, {"audio_s"}),
    ("/v1/audio/transcriptions", {"files": {"file": b"sound"}}, {"audio_s"}),
    ("/v1/audio/translations", {"files": {"file": b"sound"}}, {"audio_s"}),
    ("/v1/images/generations", {"json": {"prompt": "a red apple"}}, {"seed", "steps"}),
]


@pytest.mark.parametrize(("route", "body", "notes"), ROUTES, ids=[route for route, _, _ in ROUTES])
async def test_each_route_logs_its_whole_path_and_its_own_fields(
    lines: Lines, route: str, body: dict[str, Any], notes: set[str]
) -> None:
    async with FakeService().client() as client:
        assert (await client.post(route, **body)).status_code == 200
    line = lines.only()
    assert (line["route"], line["status"]) == (route, 200)
    assert {"audio_s", "seed", "steps", "transcript"} & set(line) == notes
    assert set(line["models"]) == set(line["timings_ms"]) - {"decode", "encode"}
