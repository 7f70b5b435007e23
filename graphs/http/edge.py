"""The HTTP edge of a graph that draws: its routes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import DeadlineExceeded, ModelUnavailable
from deployments.time_left import TimeLeft
from graphs.http import openapi, problems, request_log
from graphs.http.admission import Admission, Ticket, declared_bytes
from graphs.http.answers import EVENTS, Drawing, Heard, answer, negotiate
from graphs.http.deadline import deadline_s
from graphs.http.events import EventStream, Tell
from graphs.http.given import Given
from graphs.http.leaving import Leaving
from graphs.http.parameters import DrawParameters, parse
from graphs.http.request_log import Line
from graphs.http.rooms import Rooms
from graphs.http.settings import HttpSettings
from graphs.http.upload import receive


class Graph(Protocol):
    async def listen(self, recording: bytes, given: Given) -> Heard: ...

    async def draw(self, heard: Heard, parameters: DrawParameters, format: str, given: Given) -> Drawing: ...

    def ended(self, line: Line) -> None: ...

    def retry_after_s(self, requests: int) -> float: ...


def build(graph: Graph, rooms: Rooms, settings: HttpSettings, max_side_px: int) -> FastAPI:
    """The ASGI app. `max_side_px` bounds the width and height that a request may name."""
    app = FastAPI(title="Sonograph", summary="Speech in, picture out.", version="0.1.0")
    app.add_middleware(Leaving)
    problems.install(app)
    admission = Admission(settings.max_requests, settings.max_bytes)

    # FastAPI leaves these two once the answer has been sent, a stream's last event too, or its client has gone.
    async def logged(request: Request) -> AsyncIterator[Line]:
        with request_log.line(problems.request_id(request), settings.log_transcripts, graph.ended) as line:
            yield line

    async def admitted(request: Request, line: Annotated[Line, Depends(logged)]) -> AsyncIterator[Ticket]:
        declared = declared_bytes(request.headers.get("content-length"), settings.max_upload_bytes)
        with admission.admit(declared, lambda: graph.retry_after_s(admission.requests)) as ticket:
            yield ticket

    @app.post("/graph", summary="Draw what a recording says", response_class=Response, **openapi.post_graph())
    async def draw(
        request: Request, line: Annotated[Line, Depends(logged)], ticket: Annotated[Ticket, Depends(admitted)]
    ) -> Response:
        started_s = time.monotonic()
        headers = request.headers.getlist("x-timeout-ms")
        try:
            async with asyncio.timeout(deadline_s(settings.deadline_s, None, headers)):
                upload = await receive(request, settings.max_upload_bytes)
        except TimeoutError as error:
            raise DeadlineExceeded("the recording did not arrive within the request's time: send a smaller one") from error
        ticket.resize(len(upload.recording))
        parameters = parse(request.query_params.multi_items(), upload.fields, max_side_px)
        media_type, format = negotiate(", ".join(request.headers.getlist("accept")), parameters.output_format)
        allowed_s = deadline_s(settings.deadline_s, parameters.timeout_ms, headers)
        given = Given(TimeLeft(allowed_s - (time.monotonic() - started_s)), line)
        heard = await graph.listen(upload.recording, given)
        ticket.resize(heard.audio.nbytes)
        del upload
        if media_type != EVENTS:
            return answer(await graph.draw(heard, parameters, format, given), media_type, format, line.request_id)

        async def drawing(tell: Tell) -> Drawing:
            return await graph.draw(heard, parameters, format, Given(given.time_left, line, tell))

        return EventStream(drawing, allowed_s * 1000, format, line)

    @app.get("/healthz", summary="This process answers")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "requests": admission.requests}

    @app.get(
        "/readyz", summary="Every room has answered an inference and serves", responses=openapi.problems((ModelUnavailable,))
    )
    async def readyz() -> dict[str, Any]:
        states = await rooms.states()
        unready = [f"{name} is {state.phase}: {state.reason}".rstrip(": ") for name, state in states.items() if not state.ready]
        if unready:
            raise ModelUnavailable("; ".join(unready))
        return {"status": "ready", "rooms": {name: state.phase for name, state in states.items()}}

    return app
