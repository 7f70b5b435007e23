"""Work as server-sent events, while it is done. Wire format: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.errors import DeploymentError
from graphs.http import problems
from graphs.http.access_log import Line
from graphs.http.events import Event, Tell
from graphs.http.responses import EVENTS

KEEP_ALIVE_S = 15.0
"""Without an event for so long, a comment is sent: proxies close what is silent."""


class Wire[Result](Protocol):
    """How one kind of stream says what happens: each method gives events as they are sent."""

    def begun(self) -> Iterable[str]: ...

    def told(self, event: Event) -> Iterable[str]: ...

    def done(self, result: Result) -> Iterable[str]: ...

    def failed(self, error: DeploymentError) -> Iterable[str]: ...


class EventStream[Result](StreamingResponse):
    """Works while it is sent, and stops working when it is not."""

    media_type = EVENTS

    def __init__(self, work: Callable[[Tell], Awaitable[Result]], wire: Wire[Result], line: Line) -> None:
        self._events = _events(work, wire, line)
        super().__init__(self._events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _events[Result](work: Callable[[Tell], Awaitable[Result]], wire: Wire[Result], line: Line) -> AsyncGenerator[str]:
    told = asyncio.Queue[Event | None]()
    working = asyncio.ensure_future(work(told.put_nowait))
    working.add_done_callback(lambda working: told.put_nowait(None))
    complete = False
    try:
        for said in wire.begun():
            yield said
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    event = await told.get()
            except TimeoutError:
                yield ": keep-alive\n\n"
                continue
            if event is None:
                break
            for said in wire.told(event):
                yield said
        try:
            result = working.result()
        except Exception as error:
            line.failed(error)
            last = wire.failed(problems.known(error, line.request_id))
        else:
            last = wire.done(result)
        for said in last:
            yield said
        complete = True
    finally:
        if not complete:
            line.left()  # Starlette ends the response in silence when its client has gone
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await working
