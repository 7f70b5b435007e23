"""schemathesis against the HTTP edge over a graph that draws at once: no 500, and no answer that is not documented."""

import pytest
import schemathesis
from schemathesis.schemas import BaseSchema

from graphs.core.readiness import Rooms
from graphs.http.app import create_app
from graphs.http.settings import HttpSettings
from testing import fuzz
from testing.fakes import SERVED, FakeGraph, room_status, serve_status


def document() -> BaseSchema:
    rooms = Rooms("sonograph", ("whisper", "diffusion"), lambda: serve_status(whisper=room_status(), diffusion=room_status()))
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(FakeGraph(), rooms, HttpSettings(), SERVED))


DOCUMENT = document()


@pytest.mark.slow
@pytest.mark.parametrize("route", fuzz.routes(DOCUMENT))
def test_every_answer_is_documented(route: str) -> None:
    fuzz.attack(DOCUMENT, route, 30)
