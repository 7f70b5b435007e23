"""Answers of OpenAI's routes, as pydantic models, and these routes in the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import Response

from deployments import errors as deployments
from graphs.audio import errors as audio_errors
from graphs.core.parameters import JsonAnswer
from graphs.http import errors as http
from graphs.http.request_id import HEADER
from graphs.http.responses import EVENTS, JSON
from graphs.http.schemas import openapi
from graphs.http.schemas.examples import shown

LATE = (
    deployments.Overloaded,
    deployments.ModelUnavailable,
    deployments.DeadlineExceeded,
    deployments.DeadlineUnreachable,
    deployments.DeploymentError,
)
AUDIO = (
    http.MalformedRequest,
    http.InvalidApiKey,
    http.NotFound,
    http.ModelNotFound,
    http.BodyTooSlow,
    http.AudioTooLarge,
    audio_errors.AudioTooLong,
    http.UnsupportedMediaType,
    audio_errors.AudioEmpty,
    audio_errors.AudioUndecodable,
    deployments.NoSpeech,
    deployments.InvalidInput,
    http.RateLimitExceeded,
    *LATE,
)
IMAGES = (
    http.MalformedRequest,
    http.InvalidApiKey,
    http.NotFound,
    http.ModelNotFound,
    http.BodyTooSlow,
    http.BodyTooLarge,
    http.UnsupportedMediaType,
    deployments.InvalidInput,
    deployments.ContentRefused,
    http.RateLimitExceeded,
    *LATE,
)


class Usage(JsonAnswer):
    type: Literal["duration"] = "duration"
    seconds: int


class NumberedSegment(JsonAnswer):
    id: int
    start: float
    """Seconds from the recording's start."""
    end: float
    text: str
    avg_logprob: float
    no_speech_prob: float


class Transcription(JsonAnswer):
    text: str
    usage: Usage
    decode_warnings: list[str] | None = None
    """Sentences about what was left out of a damaged recording; absent where nothing was."""


class VerboseTranscription(JsonAnswer):
    task: str
    language: str
    duration: float
    """Seconds."""
    text: str
    segments: list[NumberedSegment]
    usage: Usage
    decode_warnings: list[str] | None = None
    """As in the short answer."""


class GeneratedImage(JsonAnswer):
    b64_json: str
    seed: int
    prompt_truncated: bool


class Images(JsonAnswer):
    created: int
    background: str
    output_format: str
    size: str
    data: list[GeneratedImage]


class Model(JsonAnswer):
    id: str
    object: Literal["model"] = "model"
    created: int
    """The time at which this ingress replica started, in seconds since 1970."""
    owned_by: str = "sonograph"
    deployment: str
    """The Serve deployment that runs the model."""


class Models(JsonAnswer):
    object: Literal["list"] = "list"
    data: list[Model]


def audio(route: str, parameters: type[BaseModel], *more: str) -> dict[str, Any]:
    """Keyword arguments for the route. `more`: media types of the answer besides JSON and text."""
    properties = parameters.model_json_schema()["properties"]
    form = {"type": "object", "required": ["file"], "properties": {"file": openapi.RECORDING, **properties}}
    content = {
        JSON: shown(route),
        "text/plain": {"schema": {"type": "string"}, **shown(f"{route} srt")},
        **{kind: _events(route) for kind in more},
    }
    english = " in English" if route.endswith("translations") else ""
    body = {"multipart/form-data": {"schema": form}}
    return _route(f"Transcribe a recording{english}", Transcription | VerboseTranscription, content, AUDIO, body)


def images(parameters: type[BaseModel]) -> dict[str, Any]:
    """Keyword arguments for the route."""
    route = "/v1/images/generations"
    body = {JSON: {"schema": parameters.model_json_schema(), "example": {"prompt": "a red apple", "seed": 1}}}
    return _route("Generate pictures of a text", Images, {JSON: shown(route), EVENTS: _events(route)}, IMAGES, body)


def models() -> dict[str, Any]:
    """Keyword arguments for the route."""
    return _models("List the models", "/v1/models", http.InvalidApiKey)


def model() -> dict[str, Any]:
    """Keyword arguments for the route."""
    return _models("Describe one model", "/v1/models/{model}", http.InvalidApiKey, http.NotFound, http.ModelNotFound)


def _models(summary: str, route: str, *errors: type[deployments.DeploymentError]) -> dict[str, Any]:
    answer = {"description": summary, "content": {JSON: shown(route)}}
    return {"summary": summary, "responses": {200: answer, **_errors((*errors, *LATE))}}


def _route(
    summary: str, model: Any, content: dict[str, Any], errors: tuple[type[deployments.DeploymentError], ...], body: dict[str, Any]
) -> dict[str, Any]:
    recording = ["X-Decode-Warnings"] if "multipart/form-data" in body else []
    headers = openapi.headers(HEADER, "Server-Timing", "X-Trace-ID", "traceresponse", *recording)
    return {
        "summary": summary,
        "response_class": Response,
        "responses": {200: {"description": summary, "model": model, "headers": headers, "content": content}, **_errors(errors)},
        "openapi_extra": {
            "parameters": [openapi.TIMEOUT, openapi.REQUEST_ID, *openapi.TRACE],
            "requestBody": {"required": True, "content": body},
        },
    }


def _events(route: str) -> dict[str, Any]:
    return {"schema": {"description": "With `stream`: server-sent events."}, **shown(f"{route} stream")}


def _errors(classes: tuple[type[deployments.DeploymentError], ...]) -> dict[int | str, dict[str, Any]]:
    return openapi.problems((*classes, *openapi.MIDDLEWARE), openai=True)
