"""Rules: each object has the fields and values that the API server takes, by the schemas of `python -m testing.schemas`."""

import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, FormatChecker, ValidationError

from deployments.nearest import nearest, question
from graphs.serve.autoscaler import parse_quantity
from kuberay.doctor.documents import Document
from kuberay.doctor.finding import NOTE, Finding, rule

FILE = Path(__file__).with_name("schemas.json")
FORMATS = FormatChecker(formats=())


@FORMATS.checks("quantity", raises=ValueError)
def _is_quantity(value: object) -> bool:
    if isinstance(value, str | int | float):
        parse_quantity(value)
    return True


@functools.cache
def schemas() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@functools.cache
def _validator(kind: str) -> Draft7Validator:
    definitions = schemas()["definitions"]
    name = schemas()["kinds"][kind]
    return Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": definitions}, format_checker=FORMATS)


@rule(
    "SG010",
    "the API server knows each object's apiVersion and kind",
    "Write them as `kubectl api-resources` prints them; the definitions of an extension have to be installed first.",
)
def a_kind_is_known(document: Document) -> Iterator[Finding]:
    version, kind = str(document.content.get("apiVersion", "")), document.kind
    kinds = schemas()["kinds"]
    if f"{version} {kind}" in kinds:
        return
    known = [one.split() for one in kinds]
    versions = [one for one, other in known if other == kind]
    groups = {one.partition("/")[0] for one, _ in known if "/" in one}
    group = version.partition("/")[0] if "/" in version else ""
    if not kind or not version:
        yield document.finding(a_kind_is_known, "kind" if version else "apiVersion", "it is missing, so this is no object")
    elif versions and (not group or group in groups or nearest(version, versions)):
        yield document.finding(a_kind_is_known, "apiVersion", f"there is no {kind} in {version}, but in {' and '.join(versions)}")
    elif (not group or group in groups) and (like := question(kind, {other for _, other in known})):
        yield document.finding(a_kind_is_known, "kind", f"there is no {kind} in {version}{like}")
    elif "kustom" not in version and "argoproj" not in version:
        sentence = f"the doctor does not know {kind} of {version}, and has not examined it"
        yield document.finding(a_kind_is_known, "kind", sentence, NOTE)


@rule(
    "SG011",
    "an object has the fields that its kind has, and each the type, the form and the bounds of its schema",
    "Write the field as `kubectl explain KIND.FIELD` has it. kubectl refuses an unknown field; other clients drop it silently.",
)
def the_api_server_takes_an_object(document: Document) -> Iterator[Finding]:
    kind = f"{document.content.get('apiVersion')} {document.kind}"
    if kind not in schemas()["kinds"]:
        return
    for error in sorted(_validator(kind).iter_errors(document.content), key=lambda one: list(map(str, one.absolute_path))):
        place = path(error.absolute_path)
        for field, sentence in _sentences(error):
            yield document.finding(the_api_server_takes_an_object, f"{place}.{field}".strip("."), sentence)


def _sentences(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield a field below the error's, and what is wrong with it."""
    found: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    shown = _shown(found)
    match error.validator:
        case "additionalProperties":
            known = schema["properties"]
            for name in found:
                if name not in known:
                    yield str(name), f"Kubernetes knows no {name} here{question(str(name), known)}"
        case "required":
            for name in wanted:
                if name not in found:
                    yield name, "it is missing"
        case "type":
            yield "", f"it is {shown}, and has to be {_article(wanted)}"
        case "enum":
            values = ", ".join(one for one in wanted if one)
            near = question(found, [one for one in wanted if one]) if isinstance(found, str) else ""
            yield "", f"it is {shown}, and has to be one of {values}{near}"
        case "format":
            yield "", f"{shown} is no quantity of Kubernetes, such as 500m or 2Gi"
        case "minimum" | "minLength" | "minItems":
            yield "", f"it is {shown}, below the least, {wanted}"
        case "maximum" | "maxLength" | "maxItems":
            yield "", f"it is {shown}, above the most, {wanted}"
        case "pattern":
            yield "", f"{shown} has not the form that is asked for there, {wanted}"
        case _:
            yield "", error.message


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _article(types: str | list[str]) -> str:
    names = {
        "object": "a mapping",
        "array": "a list",
        "string": "a text",
        "integer": "a whole number",
        "boolean": "true or false",
    }
    return " or ".join(names.get(one, f"a {one}") for one in ([types] if isinstance(types, str) else types))


def path(parts: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def refused(document: Document) -> list[Finding]:
    """Return what the API server would refuse of an object."""
    found = [*a_kind_is_known(document), *the_api_server_takes_an_object(document)]
    return list(dict.fromkeys(found))  # jsonschema has an error for each missing field, and each names all of them


def is_of_type(finding: Finding) -> bool:
    """Return whether a value has another type, or is no quantity: rules that read it cannot judge."""
    return finding.rule == the_api_server_takes_an_object.__name__ and (
        "has to be a" in finding.sentence or "is no quantity" in finding.sentence
    )
