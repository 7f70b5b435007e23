"""`GET /graph/traces/{id}`: a kept trace, for operators."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from deployments.errors import InvalidInput
from graphs.http.errors import InvalidApiKey, NotFound, OperatorKeyNeeded
from graphs.http.schemas import openapi
from graphs.http.services import Services
from graphs.tracing.view import TraceAnswer

Id = Annotated[
    str,
    Path(
        max_length=64,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="A trace's id, a request's id, `last`, or `slowest` (of those that are kept).",
        examples=["last"],
    ),
]
ONE = openapi.answer("The request's spans, in the order of their begin", "/graph/traces/{id}")


def router(services: Services) -> APIRouter:
    routes = APIRouter(dependencies=[Depends(openapi.KEY)])

    @routes.get(
        "/graph/traces/{id}",
        summary="One request's trace",
        response_model=TraceAnswer,
        responses=openapi.problems((InvalidApiKey, OperatorKeyNeeded, NotFound, InvalidInput)) | ONE,
    )
    async def one(id: Id, by: Annotated[str, Depends(services.dependencies.operator)]) -> dict[str, Any]:
        """Every ingress replica is asked, since each keeps the traces of its own requests."""
        found = [trace for trace in await services.find_traces(id) if trace is not None]
        if not found:
            raise NotFound("no ingress replica keeps this trace: each keeps its last ones (setting tracing.max_traces)")
        best = max(found, key=lambda trace: float(trace["took_ms" if id == "slowest" else "at"]))
        since = max(trace["kept_since"] for trace in found)  # a replica that began later may have replaced one
        return {**best, "kept": sum(trace["kept"] for trace in found), "kept_since": since}

    return routes
