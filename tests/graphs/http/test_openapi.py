"""The OpenAPI document: its examples and the answers match its schemas."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from deployments.model_spec import specs
from graphs.http.schemas.examples import ANSWERS
from testing.fakes import FakeService

DOCUMENT = FakeService().app().openapi()
OPERATIONS = [
    pytest.param(operation, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def examples(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Yield status, media type, schema and example."""
    for status, answer in operation["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            found = [content["example"]] if "example" in content else []
            found += [one["value"] for one in content.get("examples", {}).values()]
            yield from ((status, media_type, content.get("schema", {}), one) for one in found)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_example_matches_its_schema(operation: dict[str, Any]) -> None:
    for _, _, schema, example in examples(operation):
        jsonschema.validate(example, {**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_route_has_an_example_and_describes_its_parameters(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    english_only = "in English" in operation["summary"]  # the model that ships cannot translate
    has_no_content = "204" in operation["responses"]
    assert any(status == "200" for status, *_ in examples(operation)) or english_only or has_no_content
    for parameter in operation.get("parameters", []):
        assert parameter["description"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name, property in content["schema"].get("properties", {}).items():
            assert property["description"], name


def test_every_route_that_reads_a_body_documents_a_slow_one() -> None:
    reading = [operation.values[0] for operation in OPERATIONS if "requestBody" in operation.values[0]]
    assert len(reading) == 6
    assert [operation["summary"] for operation in reading if "408" not in operation["responses"]] == []


def test_every_stored_answer_is_in_the_document() -> None:
    shown = [example for operation in OPERATIONS for *_, example in examples(operation.values[0])]
    missing = [name for name, answer in ANSWERS.items() if answer not in shown]
    assert missing == []


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/graph", {"files": {"file": b"sound"}, "headers": {"accept": "application/json"}}),
    ("POST", "/listen", {"files": {"file": b"sound"}}),
    ("POST", "/v1/audio/transcriptions", {"files": {"file": b"sound"}}),
    ("POST", "/v1/audio/transcriptions", {"files": {"file": b"sound"}, "data": {"response_format": "verbose_json"}}),
    ("POST", "/v1/audio/translations", {"files": {"file": b"sound"}}),
    ("POST", "/v1/images/generations", {"json": {"prompt": "a red apple"}}),
    ("GET", "/v1/models", {}),
    ("GET", "/graph", {}),
    ("GET", "/healthz", {}),
    ("GET", "/readyz", {}),
    ("POST", "/graph", {"files": {"sound": b"sound"}}),
    ("POST", "/listen", {"files": {"file": b"sound"}, "data": {"steps": "4"}}),
    ("POST", "/v1/images/generations", {"json": {}}),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
async def test_an_answer_matches_its_schema_without_further_fields(method: str, path: str, body: dict[str, Any]) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(FakeService().app()), base_url="http://service") as client:
        answer = await client.request(method, path, **body)
    described = DOCUMENT["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    schema = described["content"][answer.headers["content-type"]]["schema"]
    closed = strict({**schema, "components": DOCUMENT["components"]})
    jsonschema.validate(answer.json(), closed)


def strict(schema: Any) -> Any:
    """Return the schema with every object closed to fields that it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(one) for name, one in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def test_the_stages_of_a_problem_are_the_decoder_and_every_model() -> None:
    problem = DOCUMENT["paths"]["/graph"]["post"]["responses"]["503"]["content"]["application/problem+json"]["schema"]
    assert problem["properties"]["stage"]["enum"] == ["decode", *specs(), None]
    assert problem["properties"]["stage"]["type"] == ["string", "null"]


def test_the_document_names_no_prompt_length_of_one_model() -> None:
    assert re.findall(r"\b(?:32|77) tokens|CLIP", json.dumps(DOCUMENT)) == []
