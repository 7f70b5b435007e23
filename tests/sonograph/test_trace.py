"""`sonograph trace`: the waterfall, and its refusals."""

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from sonograph import service
from sonograph.cli import cli
from sonograph.trace import BAR, bar_of, in_order, waterfall


def span(id: str, parent: str, name: str, start_ms: float, took_ms: float, **more: Any) -> dict[str, Any]:
    empty = {"kind": "internal", "error": None, "attributes": {}, "events": []}
    return {"id": id, "parent_id": parent, "name": name, "start_ms": start_ms, "took_ms": took_ms, **empty, **more}


SPANS = [
    span("b", "a", "whisper", 10, 40, attributes={"gen_ai.response.model": "tiny.en", "sonograph.batch_size": 2}),
    span("a", "client", "POST /graph", 0, 100),
    span("d", "a", "diffusion", 50, 50, error="internal"),
    span("c", "b", "queue", 10, 5),
    span("e", "d", "compute", 60, 40, events=[{"name": "denoising step", "at_ms": 70, "attributes": {}}] * 3),
]
TRACE = {
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "request_id": "id-1",
    "at": 1_700_000_000.0,
    "took_ms": 100.0,
    "status": 500,
    "replica": "abc",
    "kept": 27,
    "kept_since": 1_699_996_400.0,
    "mirrors": [],
    "mirror_of": None,
    "dropped": 0,
    "spans": SPANS,
}


def shown(trace: dict[str, Any], width: int = 120) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(waterfall(trace, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_spans_stand_below_the_one_around_them() -> None:
    assert [(depth, one["name"]) for depth, one in in_order(SPANS)] == [
        (0, "POST /graph"),
        (1, "whisper"),
        (2, "queue"),
        (1, "diffusion"),
        (2, "compute"),
    ]


def test_a_span_whose_parent_was_dropped_or_that_is_its_own_stands_at_the_top() -> None:
    assert [depth for depth, _ in in_order([span("x", "gone", "x", 0, 1), span("y", "y", "y", 0, 1)])] == [0, 0]


def test_the_waterfall_names_times_models_batches_errors_and_steps() -> None:
    lines = shown(TRACE)
    assert lines[:2] == ["request id-1", "status 500  2023-11-14 22:13:20 UTC"]
    whisper = next(line for line in lines if line.strip().startswith("whisper"))
    assert "40.0" in whisper
    assert "batch of 2, tiny.en" in whisper
    assert "internal" in next(line for line in lines if line.strip().startswith("diffusion"))
    assert any("3 × denoising step" in line for line in lines)


def test_a_request_and_its_mirror_name_each_others_traces() -> None:
    assert any("mirrored in trace 0af7" in line for line in shown({**TRACE, "mirrors": ["0af7"]}))
    assert shown({**TRACE, "mirror_of": "4bf9", "status": 0})[1].startswith("mirror of trace 4bf9")


def test_at_80_columns_each_row_is_one_line_and_its_steps_are_not_cut() -> None:
    events = [{"name": "denoising step", "at_ms": 5.0, "attributes": {}}] * 150
    model = "an-organisation/a-model-whose-name-is-longer-than-any-terminal-is-wide"
    attributes = {"gen_ai.response.model": model, "sonograph.batch_size": 16}
    names = ("POST /v1/images/generations", "diffusion-candidate", "call", "Diffusion", "triton", "compute", "window")
    spans = [
        span(f"id-{depth}", f"id-{depth - 1}", name, depth, 119_990, attributes=attributes, events=events)
        for depth, name in enumerate(names)
    ]
    lines = shown({**TRACE, "request_id": "a" * 64, "replica": "b" * 8, "took_ms": 120_000.0, "dropped": 123, "spans": spans}, 80)
    head, rows = lines[:3], lines[-len(names) :]
    assert len(lines) == len(head) + len(["", "the table's head"]) + len(names)
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in head)
    for row, name in zip(rows, names, strict=True):
        assert row.strip().startswith(name)
        assert "119990.0  150 × denoising step" in row
        assert row.endswith("…")


@pytest.mark.parametrize(
    ("start_ms", "took_ms", "bar"),
    [
        (0, 100, "█" * BAR),
        (50, 50, " " * (BAR // 2) + "█" * (BAR // 2)),
        (0, 0, "▏"),
        (100, 0, " " * (BAR - 1) + "▏"),
        (-5, 10, "█" * (BAR // 10)),
    ],
)
def test_a_bar_stands_where_its_span_ran(start_ms: float, took_ms: float, bar: str) -> None:
    assert bar_of(start_ms, took_ms, 100) == bar


def test_an_empty_axis_has_no_bars() -> None:
    assert bar_of(0, 0, 0) == ""


def test_a_name_from_the_service_is_no_markup() -> None:
    hostile = {**TRACE, "spans": [span("a", "", "[red]x[/red]", 0, 1)]}
    assert any("[red]x[/red]" in line for line in shown(hostile))


def answering(monkeypatch: pytest.MonkeyPatch, status: int, content: dict[str, Any]) -> list[str]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(status, json=content)

    made = service.Service
    monkeypatch.setattr(service, "Service", lambda url, key: made(url, key, httpx.MockTransport(answer)))
    return asked


def test_the_trace_is_printed_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, 200, TRACE)
    done = CliRunner().invoke(cli, ["trace", "slowest", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == TRACE
    assert asked == ["/graph/traces/slowest"]


def test_the_slowest_states_the_requests_and_the_time_that_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 200, TRACE)
    slowest, last = (CliRunner().invoke(cli, ["trace", id], env={"COLUMNS": "80"}).stdout for id in ("slowest", "last"))
    sentence = "the slowest of 27 requests: all that ended since 2023-11-14 21:13:20 UTC"
    assert slowest.splitlines()[-1].strip() == sentence
    assert "27 requests" not in last


def test_an_id_cannot_leave_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, 404, {"detail": "no ingress replica keeps this trace", "code": "not_found"})
    done = CliRunner().invoke(cli, ["trace", "../rollouts?x"])
    assert asked == ["/graph/traces/..%2Frollouts%3Fx"]
    assert done.exit_code == 1
    assert "no ingress replica keeps this trace" in done.stderr
