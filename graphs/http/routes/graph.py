"""The routes of the graphs: each takes a recording. And `GET /graph`: what runs where."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import ModelUnavailable
from graphs.core.graph import Graph
from graphs.core.parameters import GraphParameters
from graphs.core.progress import Emit
from graphs.http.dependencies import Recording
from graphs.http.errors import InvalidApiKey
from graphs.http.events import GraphEvents
from graphs.http.parameters import validate
from graphs.http.responses import EVENTS, negotiate, response
from graphs.http.schemas import openapi
from graphs.http.services import Services
from graphs.http.sse import EventStream
from graphs.http.upload import Upload, receive


def router(services: Services) -> APIRouter:
    routes = APIRouter()
    for graph in services.graphs:
        _add(routes, graph, services)
    if services.topology is not None:
        routes.add_api_route(
            "/graph",
            services.topology,
            summary="What runs where",
            responses=openapi.problems((InvalidApiKey, ModelUnavailable)),
            dependencies=[Depends(openapi.KEY), Depends(services.dependencies.authenticate)],
        )
    return routes


def _add(routes: APIRouter, graph: Graph[Any, Any], services: Services) -> None:
    def parse(request: Request, upload: Upload) -> tuple[GraphParameters, str]:
        parameters = validate((*request.query_params.multi_items(), *upload.fields), graph.parameters)
        accept = ", ".join(request.headers.getlist("accept"))
        media_type, format = negotiate(accept, getattr(parameters, "output_format", None), graph.formats)
        graph.check(parameters)
        return (parameters.model_copy(update={"output_format": format}) if graph.formats else parameters), media_type

    dependency = services.dependencies.recording(receive, parse)

    @routes.post(
        graph.path,
        name=type(graph).__name__,
        summary=graph.summary,
        response_class=Response,
        dependencies=[Depends(openapi.KEY)],
        **openapi.graph(graph),
    )
    async def run(recording: Annotated[Recording[GraphParameters], Depends(dependency)]) -> Response:
        admitted, parameters = recording.admitted, recording.parameters
        if recording.media_type != EVENTS:
            result = await graph.run(recording.audio, parameters, admitted.context)
            return response(graph, result, parameters, recording.media_type, admitted.context)

        async def work(emit: Emit) -> Any:
            admitted.context.emit = emit
            return await graph.run(recording.audio, parameters, admitted.context)

        return EventStream(work, GraphEvents(graph, parameters, admitted), admitted.entry)
