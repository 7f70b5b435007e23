"""The events of a running service's answer to a recording."""

import json
from collections.abc import Generator
from typing import Any

import httpx
import httpx_sse

from sonograph.connection import client, translated
from sonograph.errors import Failed

GRAPH = "/graph"
"""Path of the graph from speech to an image; what operators ask is below it."""
CONNECT_S = 10.0
SILENCE_S = 60.0
"""Longest wait for the service's next byte: a healthy stream has one every 15 s."""


def events(url: str, audio: bytes, form: dict[str, str], key: str | None = None) -> Generator[dict[str, Any]]:
    """The service's events up to `done`. `key`: an API key. Raises Failed for every failure, the event `error` too."""
    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    try:
        with (
            translated(url),
            client(key, timeout=timeout) as connection,
            httpx_sse.connect_sse(connection, "POST", f"{url.rstrip('/')}{GRAPH}", files={"file": audio}, data=form) as source,
        ):
            _check(source.response, url)
            for event in source.iter_sse():
                if not event.data:  # of a comment
                    continue
                data = json.loads(event.data)
                if data["type"] == "error":
                    raise Failed(_sentence(data["problem"]))
                yield data
                if data["type"] == "done":
                    return
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"{url} sent an event that cannot be read") from error
    raise Failed(f"{url} ended its events in the middle, so its ingress died: run the command again")


def _check(response: httpx.Response, url: str) -> None:
    """Raise Failed unless this is a stream of events."""
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if kind == "application/problem+json":
        response.read()
        raise Failed(_sentence(response.json()))
    if response.status_code != 200 or kind != "text/event-stream":
        raise Failed(f"{url}{GRAPH} answers {response.status_code} {kind}, which is not Sonograph's events: is this its address?")


def _sentence(problem: dict[str, Any]) -> str:
    return f"{problem['detail']} ({problem['code']})"
