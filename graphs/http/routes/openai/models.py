"""The models by the ids that clients of OpenAI's API name them with."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from graphs.core.stage import Stage
from graphs.http.errors import ModelNotFound
from graphs.http.parameters import printable
from graphs.http.routes.openai import openai_router
from graphs.http.schemas import openai
from graphs.http.schemas.openai import Model, Models
from graphs.http.services import Services


def ids(stage: Stage[Any, Any]) -> tuple[str, ...]:
    """The model's own name, and its aliases."""
    return tuple(dict.fromkeys((stage.settings.model_name, *stage.settings.aliases)))


def require(id: str | None, stage: Stage[Any, Any]) -> None:
    """Raise ModelNotFound where `id` names another model; without an id it is the stage's own."""
    if id is not None and id not in ids(stage):
        raise _not_found(id, ids(stage))


def router(services: Services) -> APIRouter:
    routes = openai_router()
    since_s = int(time.time())
    models = [Model(id=id, created=since_s, deployment=stage.name) for stage in services.stages.values() for id in ids(stage)]
    authenticated = [Depends(services.dependencies.authenticate)]

    @routes.get("/models", response_model=Models, dependencies=authenticated, **openai.models())
    async def all() -> Models:
        return Models(data=models)

    @routes.get("/models/{model:path}", response_model=Model, dependencies=authenticated, **openai.model())
    async def one(model: Annotated[str, Path(description="An id of `GET /v1/models`.")]) -> Model:
        found = next((known for known in models if known.id == model), None)
        if found is None:
            raise _not_found(model, tuple(known.id for known in models))
        return found

    return routes


def _not_found(id: str, known: tuple[str, ...]) -> ModelNotFound:
    error = ModelNotFound(f"there is no model `{printable(id)}` for this: there are {', '.join(known)}")
    error.param = "model"
    return error
