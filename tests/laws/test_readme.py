"""The documents name every existing parameter, error, setting, route, metric and event, and no removed one."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from deployments.model_spec import specs
from graphs.core.metrics import METRICS, Metric
from graphs.http.errors import RateLimitExceeded
from graphs.http.events import event_types
from graphs.http.routes.openai.audio import TranscriptionParameters, TranslationParameters
from graphs.http.routes.openai.images import ImageParameters
from graphs.http.schemas.examples import ANSWERS
from graphs.http.schemas.openapi import ERRORS, headers_of
from graphs.ingress import load
from graphs.settings import GRAPHS, Settings
from testing.fakes import FakeService, access_log

ROOT = Path(__file__).parents[2]
DOCS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
del DOCS["moves.md"]  # names removed files
DOCS["settings.md"] += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deployments").glob("*/README.md"))
README = "\n".join(DOCS.values())
OPENAI = DOCS["openai.md"]
STUBS = [path.read_text() for path in (ROOT / "deployments").glob("*/repository/*/1/model.py")]
CONFIGS = [
    ROOT / "deployments" / "base.py",
    ROOT / "graphs" / "ingress.py",
    ROOT / "graphs" / "local.yaml",
    *ROOT.glob("kuberay/**/*.yaml"),
]
ROWS = [line for line in README.splitlines() if line.startswith("|")]
PARAMETERS = sorted({name for graph in GRAPHS for name in load(graph).parameters.model_fields})
SETTINGS = ["graphs", "models"] + [
    f"{section}.{name}"
    for section, settings in Settings()
    if isinstance(settings, BaseModel) and (section not in specs() or specs()[section].in_triton)
    for name in type(settings).model_fields
]


def rows(name: str) -> list[str]:
    """Return the tables' rows that contain `name`."""
    return [row for row in ROWS if f"`{name}`" in row]


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_is_documented(name: str) -> None:
    assert rows(name)


def test_each_error_is_documented_with_its_status_and_what_to_do() -> None:
    table = re.findall(r"^\| (\d+) \| `(\w+)` \| \S.* \| (\w.*) \|$", DOCS["errors.md"], re.MULTILINE)
    assert [(int(status), code) for status, code, _ in table] == [
        (error.status, error.code) for error in sorted(ERRORS, key=lambda error: error.status)
    ]
    waits = {code for _, code, client in table if "Retry-After" in client}
    assert waits == {error.code for error in ERRORS if error.retry_after_s} | {RateLimitExceeded.code}


def test_the_examples_of_errors_are_recorded_ones() -> None:
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCS["errors.md"], re.DOTALL)]
    assert len(shown) == 2
    assert all(example in ANSWERS.values() for example in shown)


def test_the_bounds_that_are_documented_as_overload_are_those_that_exist() -> None:
    bounded = [path for path in CONFIGS if "max_queued_requests" in path.read_text()]
    assert bounded == [], "a deployment whose queue is bounded refuses requests: docs/errors.md has to say so at `overloaded`"
    (row,) = (row for row in rows("overloaded") if row.startswith("| 503 "))
    assert set(re.findall(r"`(http\.\w+)`", row)) == {
        *("http.max_concurrent_requests", "http.max_concurrent_uploads", "http.max_buffered_bytes")
    }
    assert not re.search("queue (is|are) full|full queue", README), "no model's queue has a bound of its own"


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_is_documented(name: str) -> None:
    assert any(row.startswith(f"| `{name}` |") for row in rows(name)), (
        f"no row for {name}: docs/settings.md or the model's own README.md"
    )


def test_no_removed_setting_is_documented() -> None:
    sections = "|".join(("audio", "http", "logging", "rollouts", "tracing", *specs()))
    assert set(re.findall(rf"^\| `((?:{sections})\.\w+)`", DOCS["settings.md"], re.MULTILINE)) == set(SETTINGS) - {
        "graphs",
        "models",
    }


def test_each_response_header_is_documented() -> None:
    table = DOCS["api.md"].split("### Response headers")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(headers_of(FakeService().graphs()))


def test_each_route_is_documented() -> None:
    document = FakeService().app().openapi()
    routes = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert len(routes) >= 9
    for method, path in routes:
        assert f"`{method} {path}`" in DOCS["api.md"]
    assert "`GET /`" in DOCS["api.md"]  # the page is not in the OpenAPI document


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_each_metric_is_documented_as_it_is_exported(metric: Metric) -> None:
    (row,) = (row for row in rows(metric.exported) if row.startswith(f"| `{metric.exported}`"))
    _, _, labels, meaning, _ = row.split("|")
    assert labels.strip() == ", ".join(f"`{label}`" for label in metric.labels)
    assert meaning.strip() == metric.meaning + (" (histogram)" if metric.bounds else "")


def test_no_removed_metric_is_documented() -> None:
    # A model's own counters are in its stub, among Triton's metrics.
    of_models = {f"ray_{name}_total" for stub in STUBS for name in re.findall(r'Counter\("(\w+)"', stub)}
    assert len(of_models) == 2
    assert set(re.findall(r"`(ray_sonograph_\w+)`", README)) == {metric.exported for metric in METRICS} | of_models


def test_every_event_is_documented_and_no_removed_one() -> None:
    table = DOCS["api.md"].split("| event | data | when |")[1].split("\n\n")[0]
    sent = {type for service in (FakeService(),) for graph in service.graphs() for type in event_types(graph, _progress(graph))}
    assert set(re.findall(r"^\| `([a-z.]+)` \|", table, re.MULTILINE)) == sent


def _progress(graph: Any) -> tuple[str, ...]:
    return tuple(event for spec in graph.models for event in spec.events)


@pytest.mark.parametrize(
    ("route", "parameters", "more"),
    [
        ("/v1/images/generations", ImageParameters, set()),
        ("/v1/audio/transcriptions", TranscriptionParameters, {"file"}),
        ("/v1/audio/translations", TranslationParameters, {"file"}),
    ],
)
def test_the_table_of_an_openai_route_states_the_effect_of_each_parameter(
    route: str, parameters: type[BaseModel], more: set[str]
) -> None:
    section = OPENAI.split(f"## `POST {route}`")[1].split("\n## ")[0]
    effects = dict(re.findall(r"^\| `(\w+)` \| (\w.*?) \|", section.split("| event |")[0], re.MULTILINE))
    assert set(effects) == set(parameters.model_fields) | more
    assert set(effects.values()) <= {"honoured", "ignored", "Sonograph's own"}
    for name, field in parameters.model_fields.items():
        assert (effects[name] == "ignored") == (field.description or "").startswith("Ignored"), name


def test_the_events_of_openais_routes_are_documented() -> None:
    code = "".join(path.read_text() for path in (ROOT / "graphs" / "http" / "routes" / "openai").glob("*.py"))
    sent = set(re.findall(r'(?:_event|sse)\("([a-z_.]+)"', code))
    assert len(sent) == 7
    assert set(re.findall(r"^\| `((?:image_generation|transcript)\.[a-z_.]+|error)` \|", OPENAI, re.MULTILINE)) == sent


async def test_the_table_of_a_requests_line_has_its_fields_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    async with FakeService(logs_transcripts=True).client() as client:
        assert (await client.post("/graph", files={"file": b"sound"})).status_code == 200
    (line,) = access_log(caplog.records)
    table = DOCS["logs.md"].split("| field | meaning |")[1].split("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(line)
