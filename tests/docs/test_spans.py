"""The documents' table of attributes: complete, and by the names of OpenTelemetry's conventions."""

import importlib
import pkgutil
import re

import pytest
from opentelemetry.semconv import _incubating, attributes

from graphs.http.schemas.examples import ANSWERS
from testing.service import ROOT

TABLE = (ROOT / "docs" / "traces.md").read_text().split("| attribute | of | value |")[1].split("\n\n")[0]
DOCUMENTED = {name for row in TABLE.splitlines() for name in re.findall(r"`([a-z_.]+\.[a-z_.]+)`", row.split(" | ")[0])}


def conventions() -> set[str]:
    """Every attribute's name of the package of semantic conventions."""
    names = set[str]()
    for package in (attributes, importlib.import_module(f"{_incubating.__name__}.attributes")):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            names |= {value for value in vars(importlib.import_module(module.name)).values() if isinstance(value, str)}
    return names


def test_attributes_have_the_conventions_names_or_our_own() -> None:
    of_conventions = {name for name in DOCUMENTED if not name.startswith("sonograph.")}
    assert len(of_conventions) > 12
    assert of_conventions <= conventions()


def test_a_servers_span_has_what_the_conventions_require() -> None:
    root = ANSWERS["/graph/traces/{id}"]["spans"][0]["attributes"]
    required = {"http.request.method", "url.path", "url.scheme", "http.route", "http.response.status_code", "server.port"}
    assert required <= root.keys() & DOCUMENTED


@pytest.mark.parametrize("span", ANSWERS["/graph/traces/{id}"]["spans"], ids=lambda span: span["name"])
def test_each_attribute_of_a_recorded_trace_is_documented(span: dict[str, dict[str, object]]) -> None:
    assert span["attributes"].keys() <= DOCUMENTED
