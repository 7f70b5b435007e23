"""Fuzzing of the HTTP edge by schemathesis, over stages that answer at once: no 500, and no undocumented answer."""

from pathlib import Path

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.schemas import BaseSchema

from graphs.http.routes import page
from graphs.http.settings import HttpSettings
from graphs.serve.topology import ClusterState, Topology
from testing import fuzz
from testing.fakes import FakeService

pytestmark = pytest.mark.slow

KEY = "k" * 48
NO_DATA = ("GET /healthz", "GET /readyz")
"""Routes that need no key."""


def document(app: FastAPI) -> BaseSchema:
    schema: BaseSchema = schemathesis.openapi.from_asgi("/openapi.json", app)
    return schema


def state() -> ClusterState:
    return ClusterState({"applications": {}}, [])


def complete(keys: Path | None = None) -> FastAPI:
    """The app, with GET /graph for every client. `keys`: the file of its API keys."""
    http = HttpSettings(api_keys_file=keys, show_graph=True)
    return FakeService(http, topology=Topology("sonograph", [], state)).app()


DOCUMENT = document(FakeService().app())
"""Of a service with default settings."""
ROUTES = fuzz.routes(document(complete()))


@pytest.mark.parametrize("route", ROUTES)
def test_every_answer_is_documented(route: str) -> None:
    statuses = fuzz.attack(document(complete()), route, 30)
    of_operators = "rollouts" in route or "traces" in route
    answer = 403 if of_operators else 404 if "{model}" in route else 200  # no generated id is a model's, nor a client near
    assert statuses[answer] > 0, "no request has reached the models: a generated form has to have its file"


@pytest.mark.parametrize("key", [None, KEY], ids=["without the key", "with the key"])
@pytest.mark.parametrize("route", ROUTES)
def test_so_it_is_where_the_service_has_keys(route: str, key: str | None, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"alice {KEY} operator\n")
    statuses = fuzz.attack(document(complete(tmp_path / "keys.txt")), route, 10, key)
    if key is None and route not in NO_DATA:
        assert set(statuses) == {401}
    else:
        assert set(statuses) - {401}, "with its key: schemathesis replaces some"


def test_every_route_is_fuzzed_or_has_a_test_of_its_own() -> None:
    assert set(ROUTES) == {
        "POST /graph",
        "GET /graph",
        "POST /listen",
        "GET /healthz",
        "GET /readyz",
        "POST /v1/audio/transcriptions",
        "POST /v1/audio/translations",
        "POST /v1/images/generations",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "GET /graph/rollouts",
        "GET /graph/rollouts/{stage}",
        "PUT /graph/rollouts/{stage}",
        "DELETE /graph/rollouts/{stage}",
        "DELETE /graph/rollouts/{stage}/samples",
        "GET /graph/traces/{id}",
    }


FILES = [f"/page/{file.name}" for file in sorted(page.FILES.iterdir()) if file.name != "index.html"]
UNDOCUMENTED = ["/", "/page/limits.json", *FILES, *(f"/samples/{file.name}" for file in sorted(page.SAMPLES.iterdir()))]
UNDOCUMENTED += ["/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/begin.js", "/openapi.json"]
"""Paths that the OpenAPI document leaves out."""


@pytest.mark.parametrize("path", UNDOCUMENTED)
async def test_a_path_outside_the_document_answers_get_and_refuses_what_else_is_sent(path: str) -> None:
    async with FakeService().client() as client:
        for query in ("", "?x=%ff&%00=&x", "?" + "x" * 5000):
            assert (await client.get(f"{path}{query}")).status_code == 200
        assert (await client.head(path)).content == b""
        hostile = {
            "Accept": "\udcff".encode("utf-8", "surrogateescape"),
            "Range": b"bytes=9-1,-",
            "If-None-Match": b'"\xff, W/',
            "Accept-Encoding": b"gzip;q=x",
        }
        assert (await client.get(path, headers=hostile)).status_code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            refused = await client.request(method, path, content=b"\xff" * 100)
            assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
        for other in (f"{path.rstrip('/')}/../x", f"{path}%00", f"{path}%ff", f"{path.rstrip('/')}/x"):
            assert (await client.get(other)).status_code in (404, 405)
