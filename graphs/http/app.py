"""The HTTP edge of a graph that draws: its routes."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import ModelUnavailable
from graphs.core.context import Given
from graphs.core.graph import Graph
from graphs.core.model_info import Served
from graphs.core.readiness import Rooms
from graphs.http import problems
from graphs.http.dependencies import Reception, Visit
from graphs.http.events import DrawingEvents, Tell
from graphs.http.middleware.disconnect import Leaving
from graphs.http.parameters import parse
from graphs.http.responses import EVENTS, Drawing, answer, negotiate
from graphs.http.routes import docs, page
from graphs.http.routes.openai import audio as speech
from graphs.http.routes.openai import images, models
from graphs.http.schemas import examples, openapi
from graphs.http.settings import HttpSettings
from graphs.http.sse import EventStream
from graphs.http.upload import receive


def create_app(graph: Graph, rooms: Rooms, settings: HttpSettings, served: Served) -> FastAPI:
    """The ASGI app."""
    app = FastAPI(title="Sonograph", summary="Speech in, picture out.", version="0.1.0", docs_url=None, redoc_url=None)
    app.add_middleware(Leaving)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[*openapi.HEADERS, "Retry-After"],
        )
    problems.install(app)
    docs.install(app)
    reception = Reception(settings, graph.ended, graph.retry_after_s)
    known = models.Models(served, settings)
    openai = APIRouter(prefix="/v1", tags=["OpenAI's API"], dependencies=[Depends(openapi.KEY)])
    speech.install(openai, graph, reception, known, settings.max_upload_bytes)
    images.install(openai, graph, reception, known, served.max_side_px)
    models.install(openai, known, reception)
    app.include_router(openai)
    page.install(app, settings, served.max_side_px)
    document = app.openapi
    app.openapi = lambda: examples.fill(document())  # type: ignore[method-assign]

    @app.post(
        "/graph",
        summary="Draw what a recording says",
        response_class=Response,
        dependencies=[Depends(openapi.KEY)],
        **openapi.post_graph(),
    )
    async def draw(request: Request, visit: Annotated[Visit, Depends(reception.admit)]) -> Response:
        upload = await visit.read(lambda: receive(request, settings.max_upload_bytes))
        visit.ticket.resize(len(upload.recording))
        parameters = parse(request.query_params.multi_items(), upload.fields, served.max_side_px)
        media_type, format = negotiate(", ".join(request.headers.getlist("accept")), parameters.output_format)
        given = visit.given(parameters.timeout_ms)
        audio = await graph.listen(upload.recording, given)
        visit.ticket.resize(audio.nbytes)
        del upload
        if media_type != EVENTS:
            return answer(await graph.draw(audio, parameters, format, given), media_type, format, visit.line.request_id)

        async def drawing(tell: Tell) -> Drawing:
            return await graph.draw(audio, parameters, format, Given(given.time_left, given.line, tell))

        events = DrawingEvents(visit.allowed_s(parameters.timeout_ms) * 1000, format, visit.line.request_id)
        return EventStream(drawing, events, visit.line)

    @app.get("/healthz", **openapi.healthz())
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "requests": reception.requests}

    @app.get("/readyz", **openapi.readyz())
    async def readyz() -> dict[str, Any]:
        states = await rooms.states()
        unready = [f"{name} is {state.phase}: {state.reason}".rstrip(": ") for name, state in states.items() if not state.ready]
        if unready:
            raise ModelUnavailable("; ".join(unready))
        return {"status": "ready", "rooms": {name: state.phase for name, state in states.items()}}

    return app
