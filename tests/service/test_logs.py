"""The lines of requests in the real service: the same in Ray's file of the ingress replica and on standard output."""

import json
import uuid
from typing import Any

import pytest

from testing.service import Service

pytestmark = pytest.mark.serve


def objects(text: str) -> list[dict[str, Any]]:
    """The lines that are JSON objects."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def test_a_requests_line_is_one_object_in_rays_file_and_on_standard_output(service: Service) -> None:
    id = f"line-{uuid.uuid4().hex}"
    answer = service.client.post("/graph", files={"file": b"no sound"}, headers={"X-Request-ID": id})
    assert answer.status_code == 422

    def on(text: str) -> list[dict[str, Any]]:
        return [line for line in objects(text) if line.get("request_id") == id and line["event"] == "request"]

    service.wait_until(lambda: bool(on(service.logs("ingress")) and on(service.output.read_text())), "the line in both places")
    (filed,), (printed,) = on(service.logs("ingress")), on(service.output.read_text())
    assert filed == printed
    assert (filed["status"], filed["level"], filed["route"]) == (422, "INFO", "/graph")
    assert {"trace_id", "span_id", "timestamp"} <= set(filed)


def test_every_line_of_the_ingresss_file_is_an_object(service: Service) -> None:
    service.client.get("/healthz")
    lines = [json.loads(line) for line in service.logs("ingress").splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    assert not [line for line in lines if str(line.get("message", "")).startswith(("GET /", "POST /"))], "Serve's own lines"


def test_the_commands_output_has_none_of_serves_own_doings(service: Service) -> None:
    service.client.post("/graph", files={"file": b"no sound"})

    def shown(text: str) -> set[str]:
        return {line["event"] for line in objects(text) if line.get("level") == "INFO"}  # Ray's own have `levelname`

    service.wait_until(lambda: "request" in shown(service.output.read_text()), "the line on standard output")
    assert "log" in shown(service.logs("ingress"))
    assert "log" not in shown(service.output.read_text())


def test_no_request_is_in_a_replicas_standard_output_or_error_when_the_command_prints_it(service: Service) -> None:
    id = f"line-{uuid.uuid4().hex}"
    service.client.post("/graph", files={"file": b"no sound"}, headers={"X-Request-ID": id})
    service.wait_until(lambda: id in service.output.read_text(), "the line on standard output")
    folder = service.session / "logs"
    assert [file.name for file in folder.glob("worker-*") if id in file.read_text(errors="replace")] == []
