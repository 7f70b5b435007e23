"""Server-sent events of work in progress. Wire format: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.errors import DeploymentError
from graphs.core.progress import Emit, Progress
from graphs.http import problems
from graphs.http.access_log import Entry
from graphs.http.responses import EVENTS, trace_headers

KEEP_ALIVE_S = 15.0
"""Longest silence of a stream. A comment ends it, since proxies close silent connections."""


class Encoder[Result](Protocol):
    """Encoder of the events of one kind of stream: each method yields them in the wire format."""

    def started(self) -> Iterable[str]: ...

    def progress(self, progress: Progress) -> Iterable[str]: ...

    def done(self, result: Result) -> Iterable[str]: ...

    def failed(self, error: DeploymentError) -> Iterable[str]: ...


class EventStream[Result](StreamingResponse):
    """Response that runs the work while it sends the events, and cancels the work when the client disconnects."""

    media_type = EVENTS

    def __init__(
        self, work: Callable[[Emit], Awaitable[Result]], encoder: Encoder[Result], entry: Entry, keep_alive_s: float | None = None
    ) -> None:
        """`work` is called with the function that takes its progress."""
        self._events = _events(work, encoder, entry, keep_alive_s or KEEP_ALIVE_S)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept", **trace_headers(entry.context)}
        super().__init__(self._events, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _events[Result](
    work: Callable[[Emit], Awaitable[Result]], encoder: Encoder[Result], entry: Entry, keep_alive_s: float
) -> AsyncGenerator[str]:
    queue = asyncio.Queue[Progress | None]()
    task = asyncio.ensure_future(work(queue.put_nowait))
    task.add_done_callback(lambda task: queue.put_nowait(None))
    complete = False
    try:
        for event in encoder.started():
            yield event
        while True:
            try:
                async with asyncio.timeout(keep_alive_s):
                    progress = await queue.get()
            except TimeoutError:
                yield ": keep-alive\n\n"
                continue
            if progress is None:
                break
            for event in encoder.progress(progress):
                yield event
        try:
            result = task.result()
        except Exception as error:
            entry.failed(error)
            last = encoder.failed(problems.translate_error(error, entry.context.id))
        else:
            last = encoder.done(result)
        for event in last:
            yield event
        complete = True
    finally:
        if not complete:
            entry.disconnected()  # Starlette ends the response of a disconnected client without an exception
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
