"""What OpenAPI says of OpenAI's routes."""

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from deployments import errors as rooms
from graphs.http import errors as http
from graphs.http.responses import EVENTS, JSON
from graphs.http.schemas import openapi
from graphs.http.schemas.examples import shown

LATE = (rooms.Overloaded, rooms.ModelUnavailable, rooms.DeadlineExceeded, rooms.DeadlineUnreachable, rooms.DeploymentError)
AUDIO = (
    http.MalformedRequest,
    http.InvalidApiKey,
    http.ModelNotFound,
    http.AudioTooLarge,
    http.AudioTooLong,
    http.UnsupportedMediaType,
    http.AudioEmpty,
    http.AudioUndecodable,
    rooms.NoSpeech,
    rooms.InvalidInput,
    http.RateLimitExceeded,
    *LATE,
)
IMAGES = (
    http.MalformedRequest,
    http.InvalidApiKey,
    http.ModelNotFound,
    http.BodyTooLarge,
    http.UnsupportedMediaType,
    rooms.InvalidInput,
    rooms.ContentRefused,
    http.RateLimitExceeded,
    *LATE,
)
STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
USAGE = openapi.record(type={"type": "string", "enum": ["duration"]}, seconds=INTEGER)
SEGMENT = openapi.record(id=INTEGER, start=NUMBER, end=NUMBER, text=STRING, avg_logprob=NUMBER, no_speech_prob=NUMBER)
TRANSCRIPT = openapi.record(text=STRING, usage=USAGE)
VERBOSE = openapi.record(
    task=STRING,
    language=STRING,
    duration=NUMBER,
    text=STRING,
    segments={"type": "array", "items": SEGMENT},
    usage=USAGE,
)
PICTURES = openapi.record(
    created=INTEGER,
    background=STRING,
    output_format=STRING,
    size=STRING,
    data={"type": "array", "items": openapi.record(b64_json=STRING, seed=INTEGER, prompt_truncated={"type": "boolean"})},
)
MODEL = openapi.record(id=STRING, object=STRING, created=INTEGER, owned_by=STRING, room=STRING)


def audio(route: str, parameters: type[BaseModel], *more: str) -> dict[str, Any]:
    """Keyword arguments for the route, as of the other functions. `more`: media types of the answer besides JSON and text."""
    properties = parameters.model_json_schema()["properties"]
    form = {"type": "object", "required": ["file"], "properties": {"file": openapi.RECORDING, **properties}}
    forms = {"schema": {"anyOf": [TRANSCRIPT, VERBOSE]}, **shown(route)}
    content = {JSON: forms, "text/plain": {"schema": STRING, **shown(f"{route} srt")}, **{kind: _events(route) for kind in more}}
    english = ", in English" if route.endswith("translations") else ""
    return _route(f"What a recording says{english}", content, AUDIO, {"multipart/form-data": {"schema": form}})


def images(parameters: type[BaseModel]) -> dict[str, Any]:
    route = "/v1/images/generations"
    content = {JSON: {"schema": PICTURES, **shown(route)}, EVENTS: _events(route)}
    body = {JSON: {"schema": parameters.model_json_schema(), "example": {"prompt": "a red apple", "seed": 1}}}
    return _route("Pictures of a text", content, IMAGES, body)


def models() -> dict[str, Any]:
    schema = openapi.record(object=STRING, data={"type": "array", "items": MODEL})
    return _models("The models", "/v1/models", schema, http.InvalidApiKey)


def model() -> dict[str, Any]:
    return _models("One model", "/v1/models/{model}", MODEL, http.InvalidApiKey, http.NotFound, http.ModelNotFound)


def _models(what: str, route: str, schema: dict[str, Any], *errors: type[rooms.DeploymentError]) -> dict[str, Any]:
    content = {JSON: {"schema": schema, **shown(route)}}
    return {"summary": what, "responses": {200: {"description": what, "content": content}, **_errors((*errors, *LATE))}}


def _route(
    what: str, content: dict[str, Any], errors: tuple[type[rooms.DeploymentError], ...], body: dict[str, Any]
) -> dict[str, Any]:
    headers = openapi.headers("X-Request-ID", "Server-Timing")
    return {
        "summary": what,
        "response_class": Response,
        "responses": {200: {"description": what, "headers": headers, "content": content}, **_errors(errors)},
        "openapi_extra": {
            "parameters": [openapi.TIMEOUT, openapi.REQUEST_ID],
            "requestBody": {"required": True, "content": body},
        },
    }


def _events(route: str) -> dict[str, Any]:
    return {"schema": {"description": "With `stream`: server-sent events."}, **shown(f"{route} stream")}


def _errors(classes: tuple[type[rooms.DeploymentError], ...]) -> dict[int | str, dict[str, Any]]:
    return openapi.problems(classes, openai=True)
