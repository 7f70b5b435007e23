"""Lines of the ingress's log: one JSON object each, whatever wrote them."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from graphs.logs.lines import JsonLines, log, write
from testing.fakes import CHARACTERS


class Kept(logging.Handler):
    """Handler that keeps what a formatter makes of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, level = Kept(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def test_a_line_has_its_event_its_time_in_utc_and_its_level_first(kept: Kept) -> None:
    write("request", {"status": 503}, logging.WARNING)
    (text,) = kept.lines
    line = json.loads(text)
    assert list(line) == ["event", "timestamp", "level", "status"]
    assert (line["event"], line["level"]) == ("request", "WARNING")
    assert line["timestamp"].endswith("Z")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_any_other_record_becomes_a_line_with_its_place_and_its_traceback(kept: Kept) -> None:
    try:
        raise ValueError(CHARACTERS)
    except ValueError:
        log.exception("request %s failed", CHARACTERS)
    (text,) = kept.lines
    assert all(" " <= character <= "~" for character in text)
    line = json.loads(text)
    assert list(line) == ["event", "timestamp", "level", "request_id", "source", "message", "exception"]
    assert (line["event"], line["level"], line["request_id"]) == ("log", "ERROR", None)
    assert line["message"] == f"request {CHARACTERS} failed"
    assert line["source"].startswith("test_lines.py:")
    assert "Traceback" in line["exception"]


def test_a_record_has_the_id_of_the_request_that_serve_knows(kept: Kept) -> None:
    log.warning("the keys stay", extra={"request_id": "abc"})
    assert json.loads(kept.lines[0])["request_id"] == "abc"


def test_a_requests_line_does_not_go_to_standard_error_and_a_rollouts_does(kept: Kept) -> None:
    write("request", {})
    write("rollout", {})
    assert [getattr(record, "log_to_stderr", None) for record in kept.records] == [False, None]


def test_a_line_below_the_level_is_not_written(kept: Kept) -> None:
    log.setLevel(logging.WARNING)
    write("request", {"status": 200})
    write("request", {"status": 500}, logging.ERROR)
    assert [json.loads(text)["status"] for text in kept.lines] == [500]
