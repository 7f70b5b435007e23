"""The HTTP edge of a graph that draws: its routes."""

import asyncio
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import DeadlineExceeded, ModelUnavailable
from deployments.time_left import TimeLeft
from graphs.http import openapi, problems
from graphs.http.answers import Drawing, answer, negotiate
from graphs.http.parameters import DrawParameters, parse
from graphs.http.rooms import Rooms
from graphs.http.settings import HttpSettings
from graphs.http.upload import receive


class Graph(Protocol):
    async def draw(
        self, recording: bytes, parameters: DrawParameters, format: str, time_left: TimeLeft, request_id: str
    ) -> Drawing: ...


def build(graph: Graph, rooms: Rooms, settings: HttpSettings, max_side_px: int) -> FastAPI:
    """The ASGI app. `max_side_px` bounds the width and height that a request may name."""
    app = FastAPI(title="Sonograph", summary="Speech in, picture out.", version="0.1.0")
    problems.install(app)

    @app.post("/graph", summary="Draw what a recording says", response_class=Response, **openapi.post_graph())
    async def draw(request: Request) -> Response:
        time_left = TimeLeft(settings.deadline_s)
        request_id = problems.request_id(request)
        try:
            async with asyncio.timeout(time_left.seconds):
                upload = await receive(request, settings.max_upload_bytes)
        except TimeoutError as error:
            raise DeadlineExceeded("the recording did not arrive within the request's time: send a smaller one") from error
        parameters = parse(request.query_params.multi_items(), upload.fields, max_side_px)
        media_type, format = negotiate(", ".join(request.headers.getlist("accept")), parameters.output_format)
        drawing = await graph.draw(upload.recording, parameters, format, time_left, request_id)
        return answer(drawing, media_type, format, request_id)

    @app.get("/healthz", summary="This process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

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
