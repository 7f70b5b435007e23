"""`GET /healthz` and `GET /readyz`, for the probes of Kubernetes."""

from fastapi import APIRouter

from deployments.errors import ModelUnavailable
from graphs.core.parameters import JsonAnswer
from graphs.http.schemas import openapi
from graphs.http.services import Services


class Health(JsonAnswer):
    status: str
    requests: int
    """Requests in this ingress replica now."""


class ReadinessAnswer(JsonAnswer):
    status: str
    models: dict[str, str]
    """Each model's phase: `ready`, or another one while a rollout's candidate answers every request in its place."""


def router(services: Services) -> APIRouter:
    routes = APIRouter()

    @routes.get("/healthz", response_model=Health, **openapi.health("/healthz", "This process answers"))
    async def healthz() -> Health:
        return Health(status="ok", requests=services.dependencies.requests)

    @routes.get(
        "/readyz",
        response_model=ReadinessAnswer,
        **openapi.health("/readyz", "Every model has answered an inference and serves"),
    )
    async def readyz() -> ReadinessAnswer:
        states = await services.readiness.states()
        required = {name for graph in services.graphs for name in graph.required_models()}
        unready = [
            f"{name} is {state.phase}: {state.reason}".rstrip(": ")
            for name, state in states.items()
            if not state.ready and name in required and not services.stages[name].rollout.replaces_stable
        ]
        if unready:
            raise ModelUnavailable("; ".join(unready))
        return ReadinessAnswer(status="ready", models={name: state.phase for name, state in states.items()})

    return routes
