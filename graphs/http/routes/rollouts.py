"""`/graph/rollouts`: the candidates of the stages' models, for operators."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import ValidationError
from starlette.requests import Request

from deployments.errors import InvalidInput, ModelUnavailable
from graphs.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidApiKey,
    NotFound,
    OperatorKeyNeeded,
    UnsupportedMediaType,
)
from graphs.http.parameters import refusal
from graphs.http.responses import JSON
from graphs.http.schemas import openapi
from graphs.http.schemas.rollouts import RemovedSamples, RolloutsAnswer, RolloutWithHistory
from graphs.http.services import Services
from graphs.http.upload import receive_json
from graphs.rollouts.change import Change
from graphs.rollouts.errors import RolloutConflict

BODY_S = 10.0
REFUSALS = (InvalidApiKey, OperatorKeyNeeded, ModelUnavailable)
ONE = openapi.answer("The rollout, its figures, verdicts and history", "/graph/rollouts/{stage}")


def router(services: Services) -> APIRouter:
    routes = APIRouter(dependencies=[Depends(openapi.KEY)])
    rollouts = services.rollouts
    if rollouts is None:
        return routes
    Stage = Annotated[str, Path(description="A stage: the name of its model.", json_schema_extra={"enum": list(services.stages)})]
    Operator = Annotated[str, Depends(services.dependencies.operator)]

    @routes.get(
        "/graph/rollouts",
        summary="Every stage's rollout",
        response_model=RolloutsAnswer,
        responses=openapi.problems(REFUSALS) | openapi.answer("Rollouts by stage", "/graph/rollouts"),
    )
    async def all(by: Operator) -> dict[str, Any]:
        return {"rollouts": await rollouts.views(), "application": rollouts.application, "serve_api": services.serve_api}

    @routes.get(
        "/graph/rollouts/{stage}",
        summary="A stage's rollout",
        response_model=RolloutWithHistory,
        responses=openapi.problems((*REFUSALS, NotFound, InvalidInput)) | ONE,
    )
    async def one(stage: Stage, by: Operator) -> dict[str, Any]:
        found = await rollouts.view(stage)
        if found is None:
            raise NotFound(f"{stage} has no rollout: `sonograph rollout start` begins one")
        return found

    @routes.put(
        "/graph/rollouts/{stage}",
        summary="Begin or change a stage's rollout",
        response_model=RolloutWithHistory,
        openapi_extra={"requestBody": openapi.json_body(Change)},
        responses=openapi.problems((*REFUSALS, RolloutConflict, InvalidInput, BodyTooLarge, UnsupportedMediaType, BodyTooSlow))
        | ONE,
    )
    async def put(stage: Stage, request: Request, by: Operator) -> dict[str, Any]:
        try:
            async with asyncio.timeout(BODY_S):
                body = await receive_json(request)
        except TimeoutError as error:
            raise BodyTooSlow(f"the body did not arrive within {BODY_S:g} s: send it without pauses") from error
        try:
            change = Change.model_validate_json(body)
        except ValidationError as error:
            raise refusal(error, Change) from error
        await rollouts.change(stage, change, by)
        return await one(stage, by)

    @routes.delete(
        "/graph/rollouts/{stage}/samples",
        summary="Remove the samples that are kept of a stage",
        response_model=RemovedSamples,
        responses=openapi.problems((*REFUSALS, NotFound, InvalidInput))
        | {200: {"description": "Their number", "content": {JSON: {"example": {"removed": 3}}}}},
    )
    async def delete_samples(stage: Stage, by: Operator) -> dict[str, int]:
        removed = await rollouts.remove_samples(stage, by)
        if removed is None:
            raise NotFound("this service keeps no samples: name a folder for them (setting rollouts.samples_folder)")
        return {"removed": removed}

    @routes.delete(
        "/graph/rollouts/{stage}",
        summary="Remove a stage's rollout: the stable model answers everything",
        status_code=204,
        responses=openapi.problems((*REFUSALS, RolloutConflict, InvalidInput)),
    )
    async def delete(stage: Stage, by: Operator) -> None:
        await rollouts.remove(stage, by)

    return routes
