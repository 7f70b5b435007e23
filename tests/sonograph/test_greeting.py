"""The lines that `sonograph serve` prints once a service is ready, from the service's own documents."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from sonograph.greeting import lines, models, recording_routes
from testing.fakes import FakeService

type Serve = Callable[[dict[str, Any]], str]
IMAGE, JSON = {"image/png": {}, "application/json": {}}, {"application/json": {}}
FORM = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}


def route(schema: dict[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    content = {"multipart/form-data": {"schema": schema}}
    return {"post": {"requestBody": {"content": content}, "responses": {"200": {"content": answers}}}}


DOCUMENT = {
    "info": {"title": "Sonograph"},
    "paths": {
        "/graph": route(FORM, IMAGE),
        "/listen": route({"$ref": "#/components/schemas/Recording"}, JSON),
        "/redraw": route({"type": "object", "properties": {"prompt": {"type": "string"}}}, IMAGE),
        "/healthz": {"get": {}},
        "/v1/audio/transcriptions": route(FORM, JSON),
    },
    "components": {"schemas": {"Recording": FORM}},
}
MODELS = {
    "data": [
        {"id": "tiny.en", "deployment": "whisper"},
        {"id": "whisper-1", "deployment": "whisper"},
        {"id": "sd-turbo", "deployment": "diffusion"},
    ]
}
READY = {"status": "ready", "models": {"whisper": "ready", "diffusion": "ready"}}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a service that answers these paths in JSON, and every other with 404; return its URL."""
    servers: list[HTTPServer] = []

    def start(documents: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path in documents else 404)
                self.end_headers()
                self.wfile.write(json.dumps(documents.get(self.path, "no such page")).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_each_route_that_takes_a_recording_has_a_command(serve: Serve) -> None:
    url = serve({"/openapi.json": DOCUMENT, "/v1/models": MODELS})
    sentence, commands = lines(url, keyed=False)
    assert sentence == "Sonograph: tiny.en, sd-turbo"
    assert commands == [
        f"curl -F file=@graphs/samples/red-apple.wav {url}/graph -o picture.png",
        f"curl -F file=@graphs/samples/red-apple.wav {url}/listen",
    ]


def test_with_keys_the_command_has_a_place_for_one_and_the_models_are_named_by_readiness(serve: Serve) -> None:
    url = serve({"/openapi.json": DOCUMENT, "/readyz": READY})
    sentence, commands = lines(url, keyed=True)
    assert sentence == "Sonograph: whisper, diffusion"
    assert commands[0] == (
        f"curl -H 'Authorization: Bearer KEY' -F file=@graphs/samples/red-apple.wav {url}/graph -o picture.png"
    )


@pytest.mark.parametrize("documents", [{}, {"/openapi.json": [], "/v1/models": "none"}])
def test_a_service_without_readable_documents_is_greeted_without_commands(serve: Serve, documents: dict[str, Any]) -> None:
    url = serve(documents)
    assert lines(url, keyed=False) == ("Sonograph: ", [])
    assert models(url) == []


def test_the_services_own_document_has_the_graphs_routes_and_the_kind_of_their_answers() -> None:
    assert recording_routes(FakeService().app().openapi()) == [("/graph", True), ("/listen", False)]
