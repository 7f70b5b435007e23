"""Fuzzing of the real service by schemathesis, and a check of its document's examples."""

import pytest
import schemathesis

from graphs.http.schemas.examples import ANSWERS
from testing import examples, fuzz
from testing.service import Service
from tests.graphs.http.test_fuzz import DOCUMENT

pytestmark = pytest.mark.serve


@pytest.mark.parametrize("route", fuzz.routes(DOCUMENT))
def test_every_answer_of_the_service_is_documented(service: Service, route: str) -> None:
    fuzz.attack(schemathesis.openapi.from_url(f"{service.url}/openapi.json"), route, 15)
    assert service.client.get("/readyz").status_code == 200


def test_the_documents_examples_match_the_services_answers(service: Service) -> None:
    found = examples.collect(service)
    assert set(found) == set(ANSWERS)
    for name, answer in found.items():
        if not name.endswith("stream"):
            assert examples.shape(answer) == examples.shape(ANSWERS[name]), name
