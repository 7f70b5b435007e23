"""Clients' errors under a real uvicorn, behind the middleware of Serve's proxy: the documented answer, and no traceback in a log."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.serve._private.http_util import _apply_middlewares

from graphs.http.middleware import upgrade
from graphs.http.middleware.proxy import middlewares
from graphs.http.settings import HttpSettings
from testing.client_errors import CLIENT_ERRORS
from testing.fakes import FakeService, access_log
from testing.serving import serving


class Records(logging.Handler):
    """Log records of every thread."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record not in self.records:
            self.records.append(record)

    @property
    def faults(self) -> list[str]:
        return [self.format(one) for one in self.records if one.exc_info or one.levelno >= logging.WARNING]

    @property
    def cancelled(self) -> int:
        return len([line for line in access_log(self.records) if (line["status"], line["cancelled"]) == (499, True)])

    @property
    def lines(self) -> int:
        """Of the service's own log."""
        return len([one for one in self.records if one.name == "ray.serve"])


@pytest.fixture
def records() -> Iterator[Records]:
    records, loggers = Records(), [logging.getLogger(), logging.getLogger("ray.serve")]  # Serve's does not propagate
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(records)
        logger.setLevel(logging.INFO)
    yield records
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(records)
        logger.setLevel(level)


def statuses(http: HttpSettings, records: Records, leaving: int) -> dict[str, int | None]:
    """Each error's answer. `leaving`: the clients that leave in a body, whose lines are waited for."""
    service = FakeService(http)
    service.whisper.endless = True
    service.decode_s = 0.01  # longer than the shortest deadline
    app = _apply_middlewares(service.app(), middlewares())
    with serving(app, http=upgrade.IgnoringUpgrades, log_config=None) as url:
        answers = {error.name: error.send(int(url.rsplit(":", 1)[1])) for error in CLIENT_ERRORS}
        deadline_s = time.monotonic() + 10
        while records.cancelled < leaving and time.monotonic() < deadline_s:
            time.sleep(0.01)
    return answers


def test_errors_of_clients_are_answered_and_leave_one_line_each_at_most(records: Records) -> None:
    leaving = len([error for error in CLIENT_ERRORS if error.leaves_in_body])
    assert statuses(HttpSettings(), records, leaving) == {error.name: error.status for error in CLIENT_ERRORS}
    assert records.faults == []
    assert records.cancelled >= leaving, "and those whose chunks uvicorn itself refuses"
    assert records.lines <= len(CLIENT_ERRORS)


def test_without_a_key_they_are_no_defects_either(records: Records, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"alice {'a' * 48}\n")
    answers = statuses(HttpSettings(api_keys_file=str(tmp_path / "keys.txt")), records, 0)
    assert {name: status for name, status in answers.items() if status and not 400 <= status < 500} == {}
    assert records.faults == []
    assert records.lines <= len(CLIENT_ERRORS)
