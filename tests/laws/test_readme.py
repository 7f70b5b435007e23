"""The README documents every parameter, error, setting and route there is, and none that has gone."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from graphs.core.metrics import FIGURES, Figure
from graphs.core.readiness import Rooms
from graphs.http.app import create_app
from graphs.http.events import TYPES
from graphs.http.parameters import DrawParameters
from graphs.http.routes.openai.audio import TranscriptionParameters, TranslationParameters
from graphs.http.routes.openai.images import ImageParameters
from graphs.http.schemas.openapi import ERRORS
from graphs.http.settings import HttpSettings
from graphs.settings import VoiceToImageSettings
from testing.fakes import SERVED, FakeGraph, serve_status

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPENAI = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
MODEL = ROOT / "deployments" / "diffusion" / "repository" / "diffusion" / "1" / "model.py"
ROWS = [line for line in README.splitlines() if line.startswith("|")]
SETTINGS = [f"{section}.{name}" for section, settings in VoiceToImageSettings() for name in type(settings).model_fields]


def rows(name: str) -> list[str]:
    """The rows of the README's tables that say something of `name`."""
    return [row for row in ROWS if f"`{name}`" in row]


@pytest.mark.parametrize("name", DrawParameters.model_fields)
def test_each_parameter_is_documented(name: str) -> None:
    assert rows(name)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_each_error_is_documented_with_its_status(error: Any) -> None:
    assert any(str(error.status) in row for row in rows(error.code))


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_is_documented(name: str) -> None:
    assert rows(name)


def test_no_setting_is_documented_that_has_gone() -> None:
    assert set(re.findall(r"^\| `((?:http|whisper|diffusion)\.\w+)`", README, re.MULTILINE)) == set(SETTINGS)


def test_each_route_is_documented() -> None:
    document = create_app(FakeGraph(), Rooms("sonograph", (), serve_status), HttpSettings(), SERVED).openapi()
    routes = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert len(routes) >= 8
    for method, path in routes:
        assert f"`{method} {path}`" in README
    assert "`GET /`" in README  # the page, which is no part of the OpenAPI document


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_each_figure_is_documented_as_it_is_exported(figure: Figure) -> None:
    (row,) = (row for row in rows(figure.exported) if row.startswith(f"| `{figure.exported}`"))
    _, _, labels, meaning, _ = row.split("|")
    assert labels.strip() == ", ".join(f"`{label}`" for label in figure.labels)
    assert meaning.strip() == figure.meaning + (" (histogram)" if figure.bounds else "")


def test_no_figure_is_documented_that_has_gone() -> None:
    # The diffusion room's model counts its steps among Triton's metrics.
    of_the_model = {f"ray_{name}" for name in re.findall(r'Counter\("(\w+)"', MODEL.read_text())}
    assert len(of_the_model) == 2
    assert set(re.findall(r"`(ray_sonograph_\w+)`", README)) == {figure.exported for figure in FIGURES} | of_the_model


def test_every_event_is_documented_and_none_that_has_gone() -> None:
    table = README.split("| event | data | when |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `([a-z.]+)` \|", table, re.MULTILINE)) == TYPES


@pytest.mark.parametrize(
    ("route", "parameters", "more"),
    [
        ("/v1/images/generations", ImageParameters, set()),
        ("/v1/audio/transcriptions", TranscriptionParameters, {"file"}),
        ("/v1/audio/translations", TranslationParameters, {"file"}),
    ],
)
def test_the_table_of_an_openai_route_says_what_becomes_of_each_parameter(
    route: str, parameters: type[BaseModel], more: set[str]
) -> None:
    section = OPENAI.split(f"## `POST {route}`")[1].split("\n## ")[0]
    said = dict(re.findall(r"^\| `(\w+)` \| (\w.*?) \|", section.split("| event |")[0], re.MULTILINE))
    assert set(said) == set(parameters.model_fields) | more
    assert set(said.values()) <= {"honoured", "ignored", "Sonograph's own"}
    for name, field in parameters.model_fields.items():
        assert (said[name] == "ignored") == (field.description or "").startswith("Ignored"), name


def test_the_events_of_openais_routes_are_documented() -> None:
    code = "".join(path.read_text() for path in (ROOT / "graphs" / "http" / "routes" / "openai").glob("*.py"))
    sent = set(re.findall(r'(?:_event|sse)\("([a-z_.]+)"', code))
    assert len(sent) == 7
    assert set(re.findall(r"^\| `((?:image_generation|transcript)\.[a-z_.]+|error)` \|", OPENAI, re.MULTILINE)) == sent
