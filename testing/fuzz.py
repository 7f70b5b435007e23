"""Fuzzing of every route by schemathesis: requests that the OpenAPI document allows, and requests that it forbids."""

from collections import Counter
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

LONGEST_MS = "400"
"""Replacement of every well-formed deadline: a generated request can take minutes, and 504 is a documented answer."""


def not_a_defect(context: Any, response: Any, case: Any) -> None:
    """Check that the status is no defect, such as 500; 503 and 504 are documented answers."""
    assert response.status_code not in (500, 502), response.text


CHECKS: list[CheckFunction] = [
    not_a_defect,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
NOTHING_TO_FORBID = ("/healthz", "/readyz", "/v1/models", "GET /graph", "GET /graph/rollouts")
SETTINGS = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


def routes(document: BaseSchema) -> list[str]:
    return [operation.ok().label for operation in document.get_all_operations()]


def attack(document: BaseSchema, route: str, count: int, key: str | None = None) -> Counter[int]:
    """Send `count` requests that the document allows and `count` that it forbids, the same in every run; return the answers' statuses."""
    statuses = Counter[int]()

    def send(case: schemathesis.Case) -> None:
        headers = dict(case.headers or {})
        if str(headers.get("X-Timeout-Ms", LONGEST_MS)).isdecimal():
            headers["X-Timeout-Ms"] = LONGEST_MS
        case.headers = headers | ({"Authorization": f"Bearer {key}"} if key else {})
        statuses[case.call_and_validate(checks=CHECKS).status_code] += 1

    (operation,) = (one.ok() for one in document.get_all_operations() if one.ok().label == route)
    for mode in GenerationMode:
        if mode.is_negative and route.endswith(NOTHING_TO_FORBID):
            continue
        settings = hypothesis.settings(max_examples=count, phases=(Phase.explicit, Phase.generate), **SETTINGS)
        settings(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(send))()
    return statuses
