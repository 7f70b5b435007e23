"""The access log: one JSON line for each request, in the ingress replica's log (`ray.serve`)."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect

from deployments.errors import DeploymentError
from graphs.core.context import RequestContext

log = logging.getLogger("ray.serve")
CLIENT_DISCONNECTED = 499
"""Serve's access log has this status too where a client disconnects before the response."""


@dataclass
class Entry:
    """One request's outcome; the rest of the line is read from its context."""

    context: RequestContext
    route: str
    key: str | None = None
    """The name of its API key."""
    status: int = 200
    """Also that of an error which was sent as an event, after the stream's own 200."""
    code: str | None = None
    stage: str | None = None
    """The stage that failed."""
    cancelled: bool = False
    """Whether the client disconnected."""
    took_s: float = 0.0
    """The request's time, once it has ended."""

    def failed(self, error: Exception) -> None:
        """A stream that ends with an error event calls it; an exception that is raised comes here by itself."""
        known = error if isinstance(error, DeploymentError) else DeploymentError()
        self.status, self.code, self.stage = known.status, known.code, known.stage

    def disconnected(self) -> None:
        self.status, self.cancelled = CLIENT_DISCONNECTED, True


@contextlib.contextmanager
def logged(
    context: RequestContext, route: str, transcripts: bool, on_done: Callable[[Entry], None] = lambda entry: None
) -> Iterator[Entry]:
    """Around all of a request's work, a stream's too: writes the line at its end, however it ends, and calls `on_done`.

    `transcripts`: whether the line has the transcript.
    """
    started_s = time.perf_counter()
    entry = Entry(context, route)
    try:
        yield entry
    except (asyncio.CancelledError, GeneratorExit, ClientDisconnect):
        entry.disconnected()
        raise
    except Exception as error:
        entry.failed(error)
        raise
    finally:
        entry.took_s = time.perf_counter() - started_s
        on_done(entry)
        _write(entry, transcripts)


def _write(entry: Entry, transcripts: bool) -> None:
    """ASCII with escapes: nothing that a client sent can end the line, or steer a terminal."""
    context = entry.context
    content: dict[str, Any] = {
        "event": "request",
        "request_id": context.id,
        "route": entry.route,
        "key": entry.key,
        "status": entry.status,
        "code": entry.code,
        "stage": entry.stage,
        "cancelled": entry.cancelled,
        "retried": context.retried,
        "degraded": list(context.degraded),
        "models": context.models,
        "timings_ms": {stage: round(ms, 1) for stage, ms in context.timings_ms.items()},
        **context.notes,
        "took_ms": round(entry.took_s * 1000, 1),
    }
    if not transcripts:
        content.pop("transcript", None)
    log.info(json.dumps(content, ensure_ascii=True, default=str))
