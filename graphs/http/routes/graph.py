"""The routes of the graphs: each takes a recording. And `GET /graph`: what runs where."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InvalidInput, ModelUnavailable
from graphs.core.graph import Graph
from graphs.core.parameters import GraphParameters
from graphs.core.progress import Emit
from graphs.http.dependencies import Recording
from graphs.http.errors import InvalidApiKey, MethodNotAllowed, OperatorKeyNeeded
from graphs.http.events import GraphEvents
from graphs.http.parameters import validate
from graphs.http.responses import EVENTS, JSON, negotiate, response
from graphs.http.schemas import openapi
from graphs.http.schemas.topology import TopologyAnswer
from graphs.http.services import Services
from graphs.http.sse import EventStream
from graphs.http.upload import Upload, receive

PATH = "/graph"


def router(services: Services) -> APIRouter:
    routes = APIRouter()
    for graph in services.graphs:
        _add(routes, graph, services)
    routes.add_api_route(
        PATH,
        services.topology,
        summary="What runs where",
        response_model=TopologyAnswer,
        responses=openapi.problems((InvalidApiKey, MethodNotAllowed, ModelUnavailable))
        | openapi.answer("Every deployment, with its replicas and their nodes", f"GET {PATH}"),
        dependencies=[Depends(openapi.KEY), Depends(_for_operators(services))],
    )
    return routes


def _for_operators(services: Services) -> Callable[[Request], Awaitable[None]]:
    """The dependency by which, without `http.show_graph`, `GET /graph` exists for operators alone."""
    others = 405 if any(graph.path == PATH for graph in services.graphs) else 404

    async def check(request: Request) -> None:
        if services.settings.show_graph:
            return await services.dependencies.authenticate(request)
        try:
            await services.dependencies.operator(request)
        except (InvalidApiKey, OperatorKeyNeeded) as error:
            raise HTTPException(others, headers={"Allow": "POST"}) from error

    return check


def _add(routes: APIRouter, graph: Graph[Any, Any], services: Services) -> None:
    def parse(request: Request, upload: Upload) -> tuple[GraphParameters, str]:
        parameters = validate((*request.query_params.multi_items(), *upload.fields), graph.parameters)
        accept = ", ".join(request.headers.getlist("accept"))
        media_type, format = negotiate(accept, getattr(parameters, "output_format", None), graph.formats)
        if media_type not in (JSON, EVENTS) and getattr(parameters, "n", 1) > 1:
            refused = InvalidInput(
                f"n must be 1 for an image, which an answer of {media_type} is: for several pictures ask for {JSON} or {EVENTS} in Accept"
            )
            refused.param = "n"
            raise refused
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
