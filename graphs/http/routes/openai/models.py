"""The models by the ids that clients of OpenAI's API name them with."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from graphs.core.model_info import Served
from graphs.http.dependencies import Reception
from graphs.http.errors import ModelNotFound
from graphs.http.parameters import printable
from graphs.http.schemas import openai
from graphs.http.settings import HttpSettings


class Models:
    """Each room's model by its own name and by its aliases."""

    def __init__(self, served: Served, settings: HttpSettings) -> None:
        self._ids = {
            "whisper": tuple(dict.fromkeys((served.whisper, *settings.whisper_aliases))),
            "diffusion": tuple(dict.fromkeys((served.diffusion, *settings.diffusion_aliases))),
        }
        self._since_s = int(time.time())

    def require(self, id: str | None, room: str) -> None:
        """Raises ModelNotFound; without an id it is the room's own model."""
        if id is not None and id not in self._ids[room]:
            raise _not_found(id, self._ids[room])

    def all(self) -> list[dict[str, Any]]:
        return [self._model(id, room) for room, ids in self._ids.items() for id in ids]

    def one(self, id: str) -> dict[str, Any]:
        """Raises ModelNotFound."""
        room = next((room for room, ids in self._ids.items() if id in ids), None)
        if room is None:
            raise _not_found(id, tuple(id for ids in self._ids.values() for id in ids))
        return self._model(id, room)

    def _model(self, id: str, room: str) -> dict[str, Any]:
        """`created`: when this ingress began to serve it."""
        return {"id": id, "object": "model", "created": self._since_s, "owned_by": "sonograph", "room": room}


def _not_found(id: str, known: tuple[str, ...]) -> ModelNotFound:
    error = ModelNotFound(f"there is no model `{printable(id)}` for this: there are {', '.join(known)}")
    error.param = "model"
    return error


def install(routes: APIRouter, models: Models, reception: Reception) -> None:
    @routes.get("/models", dependencies=[Depends(reception.identify)], **openai.models())
    async def all() -> dict[str, Any]:
        return {"object": "list", "data": models.all()}

    @routes.get("/models/{model:path}", dependencies=[Depends(reception.identify)], **openai.model())
    async def one(model: Annotated[str, Path(description="An id of `GET /v1/models`.")]) -> dict[str, Any]:
        return models.one(model)
