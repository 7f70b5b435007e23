"""The OpenAPI document: what it shows is what its own schemas say."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from graphs.http.schemas.examples import ANSWERS
from testing.fakes import FakeService

DOCUMENT = FakeService().app().openapi()
OPERATIONS = [
    pytest.param(operation, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def examples(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Status, media type, schema and example."""
    for status, answer in operation["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            shown = [content["example"]] if "example" in content else []
            shown += [one["value"] for one in content.get("examples", {}).values()]
            yield from ((status, media_type, content.get("schema", {}), one) for one in shown)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_example_is_what_its_schema_says(operation: dict[str, Any]) -> None:
    for _, _, schema, example in examples(operation):
        jsonschema.validate(example, {**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_route_shows_an_answer_and_says_what_it_takes(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    english_only = "in English" in operation["summary"]  # the model that ships cannot translate
    assert any(status == "200" for status, *_ in examples(operation)) or english_only
    for parameter in operation.get("parameters", []):
        assert parameter["description"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name, property in content["schema"].get("properties", {}).items():
            assert property["description"], name


def test_every_answer_that_was_kept_is_shown() -> None:
    shown = [example for operation in OPERATIONS for *_, example in examples(operation.values[0])]
    hidden = [name for name, answer in ANSWERS.items() if answer not in shown]
    assert hidden == []
