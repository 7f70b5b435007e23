"""Standard output of the lines: whole lines, and none that a request waits for."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphs.logs.lines import log, write
from graphs.logs.output import Output


class Pipe:
    """A pipe that is opened by its path, as a container's standard output is."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        self.path = f"/proc/{os.getpid()}/fd/{self.write}"

    def text(self) -> str:
        """All that it holds."""
        found = b""
        try:
            while part := os.read(self.read, 1 << 16):
                found += part
        except BlockingIOError:
            pass
        return found.decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe, level = Pipe(), log.level
    log.setLevel(logging.INFO)
    yield pipe
    for handler in [one for one in log.handlers if isinstance(one, Output)]:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)
    for file in (pipe.read, pipe.write):
        os.close(file)


def add(path: str) -> Output:
    output = Output(path)
    log.addHandler(output)
    return output


def test_without_a_path_a_replicas_own_standard_output_has_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    output = Output()
    log.addHandler(output)
    try:
        write("request", {"status": 500}, logging.ERROR)
        log.error("a defect")
    finally:
        log.removeHandler(output)
    assert capfd.readouterr().out == ""


def test_the_replicas_own_standard_output_can_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    output = add("/dev/stdout")
    try:
        write("request", {"status": 500}, logging.ERROR)
    finally:
        log.removeHandler(output)
        output.close()
    assert json.loads(capfd.readouterr().out)["status"] == 500


def test_a_device_has_the_lines_of_requests_whole_and_those_of_rollouts(pipe: Pipe) -> None:
    add(pipe.path)
    write("request", {"transcript": "a" * 10_000})
    write("rollout", {"stage": "whisper"})
    first, second = map(json.loads, pipe.text().splitlines())
    assert first["transcript"] == "a" * 10_000
    assert second["stage"] == "whisper"


def test_of_the_other_lines_a_device_has_the_warnings_and_errors(pipe: Pipe) -> None:
    add(pipe.path)
    log.info("Serve has a new replica")
    log.warning("the keys stay")
    log.error("a defect")
    found = [json.loads(line) for line in pipe.text().splitlines()]
    assert [(line["event"], line["level"], line["message"]) for line in found] == [
        ("log", "WARNING", "the keys stay"),
        ("log", "ERROR", "a defect"),
    ]


def test_a_pipe_that_nobody_reads_costs_lines_and_no_line_is_cut(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    output = add(pipe.path)
    for number in range(40):
        write("request", {"number": number, "transcript": "a" * 5_000})
    assert output.dropped > 0
    before = pipe.text()
    write("request", {"number": 100})
    text = before + pipe.text()
    found = [json.loads(line) for line in text.splitlines()]
    numbers = [line["number"] for line in found if line["event"] == "request"]
    assert numbers == [*range(len(numbers) - 1), 100]
    assert len([record for record in caplog.records if "loses lines" in record.getMessage()]) == 1


def test_a_pipe_whose_reader_has_gone_ends_the_output_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    read, end = os.pipe()
    output = Output(f"/proc/{os.getpid()}/fd/{end}")
    log.addHandler(output)
    os.close(read)
    try:
        for _ in range(3):
            write("request", {}, logging.ERROR)
    finally:
        log.removeHandler(output)
        os.close(end)
    assert len([record for record in caplog.records if "nobody reads" in record.getMessage()]) == 1


def test_a_device_that_cannot_be_opened_is_said_and_ends_no_replica(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = add(str(tmp_path / "missing"))
    try:
        write("request", {}, logging.ERROR)
    finally:
        log.removeHandler(output)
    assert "logging.output cannot be opened" in caplog.text
    assert not (tmp_path / "missing").exists()
