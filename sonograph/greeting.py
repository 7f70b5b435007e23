"""The lines that `sonograph serve` prints once a service is ready: its models, and a command for each graph, as the service names them."""

import json
import urllib.request
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[1] / "graphs" / "samples" / "red-apple.wav"


def lines(url: str, keyed: bool) -> tuple[str, list[str]]:
    """One sentence about the service at `url`, and the commands to try. `keyed`: the service asks for an API key."""
    sample = SAMPLE.relative_to(Path.cwd()) if SAMPLE.is_relative_to(Path.cwd()) else SAMPLE
    document = _get(f"{url}/openapi.json")
    sentence = f"{document.get('info', {}).get('title', 'Sonograph')}: {', '.join(models(url))}"
    key = "-H 'Authorization: Bearer KEY' " if keyed else ""
    return sentence, [
        f"curl {key}-F file=@{sample} {url}{path}{' -o picture.png' if is_image else ''}"
        for path, is_image in recording_routes(document)
    ]


def models(url: str) -> list[str]:
    """The first id of each deployed model; the deployments' names where `/v1/models` asks for a key."""
    first: dict[str, str] = {}
    for model in _get(f"{url}/v1/models").get("data", []):
        first.setdefault(model.get("deployment", model["id"]), model["id"])
    return list(first.values()) or list(_get(f"{url}/readyz").get("models", {}))


def recording_routes(document: dict[str, Any]) -> list[tuple[str, bool]]:
    """Path of each route that takes a recording, from an OpenAPI document, and whether it answers with an image.

    Leaves out OpenAI's API, whose clients come with it.
    """
    found = []
    for path, operations in document.get("paths", {}).items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        form = _resolved(document, content.get("multipart/form-data", {}).get("schema", {}))
        if "file" in form.get("properties", {}) and not path.startswith("/v1/"):
            answers = operations["post"].get("responses", {}).get("200", {}).get("content", {})
            found.append((path, any(media_type.startswith("image/") for media_type in answers)))
    return found


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, or the component that it refers to."""
    if "$ref" not in schema:
        return schema
    found = document
    for name in schema["$ref"].removeprefix("#/").split("/"):
        found = found.get(name, {})
    return found


def _get(url: str) -> dict[str, Any]:
    """A JSON object; empty where the service does not answer with one."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            content = json.load(response)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
