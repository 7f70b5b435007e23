"""Answers of a real service for the OpenAPI document: `python -m testing.examples` writes graphs/http/schemas/examples.json."""

import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from graphs.http.schemas.examples import ANSWERS
from testing import media
from testing.service import ROOT, Service, sonograph

APPLE = (ROOT / "graphs" / "samples" / "red-apple.wav").read_bytes()
JSON = {"Accept": "application/json"}
EVENTS = {"Accept": "text/event-stream"}
SILENCE = media.encode(np.zeros(48_000, np.int16), "wav", "pcm_s16le")
UNMEASURED = "72x8"
"""Size that no other request has. For a measured size the service would refuse the deadline before it starts the model."""
LONG = 48
"""Length to which longer texts without a blank are cut: they are images in base64."""

type Request = tuple[str, dict[str, Any]]
"""Path, and httpx's options."""
ANSWERED: dict[str, Request] = {
    "/graph": ("/graph", {"files": {"file": APPLE}, "data": {"seed": "1"}, "headers": JSON}),
    "/graph stream": ("/graph", {"files": {"file": APPLE}, "data": {"seed": "1", "steps": "1"}, "headers": EVENTS}),
    "/listen": ("/listen", {"files": {"file": APPLE}}),
    "/listen stream": ("/listen", {"files": {"file": APPLE}, "headers": EVENTS}),
    "/v1/images/generations": ("/v1/images/generations", {"json": {"prompt": "a red apple", "seed": 1}}),
    "/v1/images/generations stream": (
        "/v1/images/generations",
        {"json": {"prompt": "a red apple", "seed": 1, "steps": 2, "stream": True, "partial_images": 1, "progress": True}},
    ),
    "/v1/audio/transcriptions": ("/v1/audio/transcriptions", {"files": {"file": APPLE}}),
    "/v1/audio/transcriptions srt": ("/v1/audio/transcriptions", {"files": {"file": APPLE}, "data": {"response_format": "srt"}}),
    "/v1/audio/transcriptions stream": ("/v1/audio/transcriptions", {"files": {"file": APPLE}, "data": {"stream": "true"}}),
    "/v1/models": ("/v1/models", {"method": "GET"}),
    "/v1/models/{model}": ("/v1/models/whisper-1", {"method": "GET"}),
    "/healthz": ("/healthz", {"method": "GET"}),
    "/readyz": ("/readyz", {"method": "GET"}),
    "GET /graph": ("/graph", {"method": "GET"}),
}
REFUSED: list[Request] = [
    ("/graph", {"files": {"sound": APPLE}}),
    *[
        (path, {"method": "GET", "headers": headers})
        for path in ("/graph", "/v1/models")
        for headers in ({"Origin": "https://example.org"}, {"Host": "example.org"}, {"Accept": ", ".join(["image/png"] * 100)})
    ],
    ("/graphs", {}),
    ("/listen", {"method": "GET"}),
    ("/graph", {"files": {"file": APPLE}, "headers": {"Accept": "text/html"}}),
    ("/graph", {"files": {"file": bytes(30 << 20)}}),
    ("/graph", {"files": {"file": media.silence_flac(3)}}),
    ("/graph", {"content": b"hello", "headers": {"Content-Type": "text/plain"}}),
    ("/graph", {"files": {"file": b""}}),
    ("/graph", {"files": {"file": b"RIFF" + bytes(5000)}}),
    ("/graph", {"files": {"file": SILENCE}}),
    ("/graph", {"files": {"file": APPLE}, "data": {"steps": "151"}}),
    ("/graph", {"files": {"file": media.minute()}, "data": {"timeout_ms": "1"}}),  # on any machine decoding takes longer
    ("/v1/audio/transcriptions", {"files": {"sound": APPLE}}),
    ("/v1/models/gpt-4o", {"method": "GET"}),
    ("/v1/audio/transcriptions", {"files": {"file": bytes(30 << 20)}}),
    ("/v1/audio/transcriptions", {"files": {"file": media.silence_flac(3)}}),
    ("/v1/images/generations", {"content": b" " * 70_000, "headers": {"Content-Type": "application/json"}}),
    ("/v1/images/generations", {"data": {"prompt": "a red apple"}}),
    ("/v1/audio/transcriptions", {"files": {"file": b""}}),
    ("/v1/audio/transcriptions", {"files": {"file": b"RIFF" + bytes(5000)}}),
    ("/v1/audio/transcriptions", {"files": {"file": SILENCE}}),
    ("/v1/images/generations", {"json": {"prompt": "a red apple", "response_format": "url"}}),
    ("/v1/images/generations", {"json": {"prompt": "a red apple", "timeout_ms": 1, "size": UNMEASURED}}),
]


def collect(service: Service) -> dict[str, Any]:
    """Return the answers by the names that graphs/http/schemas/examples.py reads."""
    found = {name: _content(_send(service, *request)) for name, request in ANSWERED.items()}
    for request in REFUSED:
        answer = _send(service, *request)
        assert answer.status_code >= 400, request
        shape = "openai" if request[0].startswith("/v1/") else "problem"
        content = answer.json()
        found[f"{shape} {content.get('error', content)['code']}"] = content
    _send(service, "/listen", {"files": {"file": APPLE}})
    found["/graph/traces/{id}"] = _content(_send(service, "/graph/traces/last", {"method": "GET"}))
    return found | _rollout(service)


def _rollout(service: Service) -> dict[str, Any]:
    """Answers about a rollout whose candidate is the service itself, which is removed again."""
    path, wait_s = "/graph/rollouts/whisper", time.monotonic() + 30
    begin = {"application": "sonograph", "plan": {"steps": [5, 20, 100]}}
    _content(_send(service, path, {"method": "PUT", "json": begin}))
    try:
        while len((found := _content(_send(service, path, {"method": "GET"})))["history"]) < 2:
            assert time.monotonic() < wait_s, found
            time.sleep(0.2)
        every = _content(_send(service, "/graph/rollouts", {"method": "GET"}))
        refused = _send(service, path, {"method": "PUT", "json": begin}).json()
    finally:
        service.client.delete(path)
    return {"/graph/rollouts": every, "/graph/rollouts/{stage}": found, f"problem {refused['code']}": refused}


IDS = ("request_id", "trace_id", "id", "parent_id", "replica", "sonograph.request_id", "events", "node", "host", "address")
"""Parts of an answer that differ each time."""


def shape(content: Any) -> Any:
    """Return the constant part of an answer: names, types and words, without numbers and ids."""
    if isinstance(content, dict):
        return {name: "" if name in IDS else shape(value) for name, value in content.items()}
    if isinstance(content, list):
        return [shape(value) for value in content]
    if isinstance(content, str):
        return re.sub(r"\d+(\.\d+)?", "0", re.sub(r"^[0-9a-f]{8}$", "", content))
    return type(content).__name__ if isinstance(content, bool) or content is None else "number"


def _send(service: Service, path: str, options: dict[str, Any]) -> httpx.Response:
    return service.client.request(**{"method": "POST", "url": path, **options})


def _content(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        return _shorten(answer.json())
    return re.sub(rf"([A-Za-z0-9+/=]{{{LONG}}})[A-Za-z0-9+/=]+", r"\1...", answer.text)


def _shorten(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _shorten(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_shorten(value) for value in content]
    return f"{content[:LONG]}..." if isinstance(content, str) and len(content) > LONG and " " not in content else content


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sonograph(Path(folder)) as running:
        answers = collect(running)
    path = ROOT / "graphs" / "http" / "schemas" / "examples.json"
    path.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: {len(answers)} answers, {len(ANSWERS)} before")
