"""A drawing as server-sent events, while it is made. Wire format: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.diffusion import Step
from deployments.whisper import Segment, Transcript
from graphs.http import problems
from graphs.http.answers import EVENTS, Drawing, picture
from graphs.http.request_log import Line

KEEP_ALIVE_S = 15.0
"""Without an event for so long, a comment is sent: proxies close what is silent."""


@dataclass(frozen=True)
class Accepted:
    deadline_ms: float


@dataclass(frozen=True)
class Queued:
    stage: str
    position: int
    """In the ingress's queue, 1 for the next."""


@dataclass(frozen=True)
class Retry:
    """The stage begins again: what it has told so far is void."""

    stage: str


Event = Accepted | Queued | Segment | Transcript | Step | Retry
Tell = Callable[[Event], None]
TYPES = (
    "accepted",
    "queued",
    "transcript.delta",
    "transcript",
    "image.step",
    "image.preview",
    "image",
    "retry",
    "done",
    "error",
)
"""All that a stream can carry."""


class EventStream(StreamingResponse):
    """Draws while it is sent, and stops drawing when it is not."""

    media_type = EVENTS

    def __init__(self, draw: Callable[[Tell], Awaitable[Drawing]], deadline_ms: float, format: str, line: Line) -> None:
        self._events = _events(draw, deadline_ms, format, line)
        super().__init__(self._events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _events(draw: Callable[[Tell], Awaitable[Drawing]], deadline_ms: float, format: str, line: Line) -> AsyncGenerator[str]:
    told = asyncio.Queue[Event | None]()
    told.put_nowait(Accepted(round(deadline_ms)))
    drawing = asyncio.ensure_future(draw(told.put_nowait))
    drawing.add_done_callback(lambda drawing: told.put_nowait(None))
    sequence, complete = 0, False

    def wire(type: str, data: dict[str, Any]) -> str:
        nonlocal sequence
        content = json.dumps({"type": type, "request_id": line.request_id, "sequence": sequence} | data, separators=(",", ":"))
        sequence += 1
        return f"event: {type}\nid: {sequence - 1}\ndata: {content}\n\n"

    try:
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    event = await told.get()
            except TimeoutError:
                yield ": keep-alive\n\n"
                continue
            if event is None:
                break
            for type, data in _data(event):
                yield wire(type, data)
        try:
            done = drawing.result()
        except Exception as error:
            line.failed(error)
            yield wire("error", {"problem": problems.content(problems.known(error, line.request_id), line.request_id)})
        else:
            yield wire("image", picture(done, format))
            yield wire("done", {"timings_ms": {stage: round(ms, 1) for stage, ms in done.timings_ms.items()}})
        complete = True
    finally:
        if not complete:
            line.left()  # Starlette ends the response in silence when its client has gone
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await drawing


def _data(event: Event) -> list[tuple[str, dict[str, Any]]]:
    """The event's types and data, in their order: a step with a preview is two events."""
    match event:
        case Accepted():
            return [("accepted", asdict(event))]
        case Queued():
            return [("queued", asdict(event))]
        case Retry():
            return [("retry", asdict(event))]
        case Segment():
            return [("transcript.delta", {"text": event.text, "start": event.start, "end": event.end})] if event.text else []
        case Transcript():
            segments = [asdict(segment) for segment in event.segments]
            return [("transcript", {"text": event.text, "language": event.language, "segments": segments})]
        case Step():
            said: list[tuple[str, dict[str, Any]]] = [
                ("image.step", {"step": event.done, "steps": event.of, "eta_ms": round(event.eta_ms)})
            ]
            if event.preview is not None:
                content = base64.b64encode(event.preview.encoded).decode("ascii")
                size = {"width": event.preview.width, "height": event.preview.height}
                said.append(("image.preview", {"step": event.done, "media_type": "image/jpeg", "base64": content, **size}))
            return said
