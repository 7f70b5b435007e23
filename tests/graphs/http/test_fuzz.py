"""Fuzzing of the HTTP edge by schemathesis, over stages that answer at once: no 500, and no undocumented answer."""

import pytest
import schemathesis
from schemathesis.schemas import BaseSchema

from testing import fuzz
from testing.fakes import FakeService

DOCUMENT: BaseSchema = schemathesis.openapi.from_asgi("/openapi.json", FakeService().app())


@pytest.mark.slow
@pytest.mark.parametrize("route", fuzz.routes(DOCUMENT))
def test_every_answer_is_documented(route: str) -> None:
    fuzz.attack(DOCUMENT, route, 30)
