"""The access log: one JSON line for each request, in the ingress replica's log and on standard output."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect

from deployments.errors import DeploymentError
from graphs.core.context import RequestContext
from graphs.logs import lines

CLIENT_DISCONNECTED = 499
"""Serve's access log has this status too where a client disconnects before the response."""

DETAIL_CHARACTERS = 300


@dataclass
class Entry:
    """One request's outcome; the rest of the line is read from its context."""

    context: RequestContext
    route: str
    status: int = 200
    """Also that of an error which was sent as an event, after the stream's own 200."""
    code: str | None = None
    detail: str | None = None
    """The answer's sentence, for a request that was refused or could not be served; it names the bound or the parameter."""
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
        self.detail = None if known.status == DeploymentError.status else str(known)[:DETAIL_CHARACTERS]

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


def trace_ids(context: RequestContext) -> dict[str, str | None]:
    """The ids of the request's trace and of its span in this service, in hex; None where it has no trace."""
    trace = context.trace
    return {"trace_id": trace.id, "span_id": trace.root.id} if trace else {"trace_id": None, "span_id": None}


def level(status: int) -> int:
    """An error for a defect, a warning for a refusal or a dead replica. A client's short `timeout_ms` can cause a missed deadline."""
    return {500: logging.ERROR, 503: logging.WARNING}.get(status, logging.INFO)


def _write(entry: Entry, transcripts: bool) -> None:
    context = entry.context
    content: dict[str, Any] = {
        "request_id": context.id,
        **trace_ids(context),
        "route": entry.route,
        "key": context.key,
        "status": entry.status,
        "code": entry.code,
        "detail": entry.detail,
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
    lines.write(lines.REQUEST, content, level(entry.status))
