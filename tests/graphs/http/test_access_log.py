"""One line for each request: what it says, and that nothing of a request can break out of it."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from deployments.errors import DeploymentError, NoSpeech
from graphs.http import access_log
from testing.fakes import CHARACTERS


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.raw: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert record.levelno == logging.INFO
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


def test_a_request_that_is_answered(lines: Lines) -> None:
    with access_log.line("abc", transcripts=False) as said:
        said.timings_ms |= {"decode": 1.04, "whisper": 20.06}
        said.audio_s, said.steps, said.seed = 3.5, 12, 7
        said.retried.append("whisper")
        said.transcript = "a red apple"
    line = lines.only()
    assert line.pop("took_ms") >= 0
    assert line == {
        "event": "request",
        "request_id": "abc",
        "route": "/graph",
        "key": None,
        "status": 200,
        "code": None,
        "stage": None,
        "cancelled": False,
        "retried": ["whisper"],
        "timings_ms": {"decode": 1.0, "whisper": 20.1},
        "audio_s": 3.5,
        "steps": 12,
        "seed": 7,
    }


def test_the_words_are_written_only_where_the_setting_says_so(lines: Lines) -> None:
    for transcripts in (False, True):
        with access_log.line("abc", transcripts) as said:
            said.transcript = "a red apple"
    without, with_words = lines.raw
    assert "apple" not in without
    assert "transcript" not in json.loads(without)
    assert json.loads(with_words)["transcript"] == "a red apple"


def test_a_request_that_is_refused(lines: Lines) -> None:
    error = NoSpeech("silence")
    error.stage = "whisper"
    with pytest.raises(NoSpeech), access_log.line("abc", transcripts=False):
        raise error
    line = lines.only()
    assert (line["status"], line["code"], line["stage"], line["cancelled"]) == (422, "no_speech", "whisper", False)


@pytest.mark.parametrize("defect", [DeploymentError("secret"), RuntimeError("secret")])
def test_a_defect_is_internal_and_its_reason_is_not_in_the_line(lines: Lines, defect: Exception) -> None:
    with pytest.raises(type(defect)), access_log.line("abc", transcripts=False):
        raise defect
    line = lines.only()
    assert (line["status"], line["code"], line["stage"]) == (500, "internal", None)
    assert "secret" not in lines.raw[0]


@pytest.mark.parametrize("left", [asyncio.CancelledError, GeneratorExit, ClientDisconnect])
def test_a_client_that_left(lines: Lines, left: type[BaseException]) -> None:
    def work() -> None:
        with access_log.line("abc", transcripts=False) as said:
            said.timings_ms["decode"] = 2.0
            raise left

    with pytest.raises(left):
        work()
    line = lines.only()
    assert (line["status"], line["code"], line["cancelled"]) == (499, None, True)
    assert line["timings_ms"] == {"decode": 2.0}


def test_a_stream_that_ends_with_an_error_event_says_the_errors_status(lines: Lines) -> None:
    with access_log.line("abc", transcripts=False) as said:
        said.failed(NoSpeech("silence"))
    assert lines.only()["status"] == 422


async def test_a_stream_whose_client_leaves_writes_its_line_when_it_is_closed(lines: Lines) -> None:
    async def events() -> Any:
        with access_log.line("abc", transcripts=False):
            yield 1
            yield 2

    stream = events()
    await anext(stream)
    await stream.aclose()
    assert lines.only()["cancelled"] is True


def test_no_character_of_a_request_ends_the_line_or_reaches_a_terminal(lines: Lines) -> None:
    with access_log.line(CHARACTERS, transcripts=True) as said:
        said.transcript = CHARACTERS + "%s %(x)s \\u000a {}"
        said.timings_ms[CHARACTERS] = 1.0
    (raw,) = lines.raw
    assert all(" " <= character <= "~" for character in raw)
    line = json.loads(raw)
    assert line["transcript"] == CHARACTERS + "%s %(x)s \\u000a {}"
    assert line["request_id"] == CHARACTERS
