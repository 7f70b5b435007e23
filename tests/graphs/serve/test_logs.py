"""Serve's logger in an ingress replica, configured as Serve configures it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.common import ServeComponentType
from ray.serve._private.logging_utils import configure_component_logger
from ray.serve.schema import LoggingConfig

from graphs.ingress import app
from graphs.logs.lines import log, write
from graphs.logs.output import Output
from graphs.logs.settings import LoggingSettings
from graphs.serve import logs
from graphs.settings import Settings


@pytest.fixture(autouse=True)
def _former() -> Iterator[None]:
    """The logger of this process as it was."""
    former = log.handlers[:], log.filters[:], log.level, log.propagate
    yield
    for handler in log.handlers:
        if handler not in former[0]:
            handler.close()
    log.handlers[:], log.filters[:], log.level, log.propagate = former
    log.setLevel(former[2])  # empties the logger's cache too


def configure(folder: Path, **config: Any) -> None:
    """Configure the logger as a replica does before it makes the ingress."""
    configure_component_logger(
        component_name="sonograph_ingress",
        component_id="a1b2",
        component_type=ServeComponentType.REPLICA,
        logging_config=LoggingConfig(**logs.config(LoggingSettings()) | config, logs_dir=str(folder)),
        max_bytes=1 << 20,
        backup_count=1,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("replica_*.log")
    return [dict(json.loads(line)) for line in file.read_text().splitlines()]


def shaped(folder: Path, **settings: Any) -> LoggingSettings:
    (folder / "out").touch()
    found = LoggingSettings(output=str(folder / "out"), **settings)
    configure(folder, **logs.config(found))
    logs.install(found)
    return found


def test_the_file_of_the_replica_and_the_output_have_the_same_line(tmp_path: Path) -> None:
    shaped(tmp_path)
    write("request", {"request_id": "abc", "status": 200})
    log.warning("the keys stay")
    (file,) = tmp_path.glob("replica_*.log")
    assert file.read_text() == (tmp_path / "out").read_text()
    first, second = lines(tmp_path)
    assert (first["event"], first["request_id"], first["status"]) == ("request", "abc", 200)
    assert (second["event"], second["message"]) == ("log", "the keys stay")


def test_serves_own_lines_are_in_the_file_of_the_replica_alone(tmp_path: Path) -> None:
    shaped(tmp_path)
    log.info("Serve has a new replica")
    assert [line["message"] for line in lines(tmp_path)] == ["Serve has a new replica"]
    assert (tmp_path / "out").read_text() == ""


def test_standard_error_has_no_line_of_a_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shaped(tmp_path)
    write("request", {"request_id": "abc"})
    log.warning("the keys stay")
    error = capsys.readouterr().err
    assert "abc" not in error
    assert "the keys stay" in error


def test_serves_own_line_of_a_request_is_written_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shaped(tmp_path)
    log.info("POST /graph 200 12.3ms", extra={"serve_access_log": True, "skip_context_filter": True})
    assert lines(tmp_path) == []
    assert (tmp_path / "out").read_text() == capsys.readouterr().err == ""


def test_the_shape_stays_when_serve_configures_its_logger_anew(tmp_path: Path) -> None:
    shaped(tmp_path)
    configure(tmp_path, log_level="DEBUG")
    write("request", {"number": 1})
    log.debug("second")
    assert [line["event"] for line in lines(tmp_path)] == ["request", "log"]
    assert len([one for one in log.handlers if isinstance(one, Output)]) == 1


def test_installing_twice_writes_each_line_once(tmp_path: Path) -> None:
    settings = shaped(tmp_path)
    logs.install(settings)
    write("request", {})
    assert len((tmp_path / "out").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "events"), [({"access": False}, ["log"]), ({"level": "WARNING"}, ["log"]), ({}, ["request", "log"])]
)
def test_the_settings_leave_lines_out(tmp_path: Path, settings: dict[str, Any], events: list[str]) -> None:
    shaped(tmp_path, **settings)
    write("request", {"status": 200})
    log.warning("the keys stay")
    assert [line["event"] for line in lines(tmp_path)] == events


def test_a_request_that_the_service_failed_passes_the_level_warning(tmp_path: Path) -> None:
    shaped(tmp_path, level="WARNING")
    write("request", {"status": 503}, logging.WARNING)
    assert [line["status"] for line in lines(tmp_path)] == [503]


def test_the_ingress_is_deployed_with_its_level_and_without_serves_line_of_each_request() -> None:
    bound = app(Settings.model_validate({"logging": {"level": "WARNING"}}))._bound_deployment
    found = bound._deployment_config.logging_config
    assert found is not None
    assert (found["log_level"], found["enable_access_log"], found["encoding"]) == ("WARNING", False, "JSON")
