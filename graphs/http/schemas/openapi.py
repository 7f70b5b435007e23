"""The OpenAPI document's parts, made from the classes that decide them: parameters, answers, errors."""

from collections.abc import Iterable
from typing import Any

from fastapi.security import HTTPBearer
from pydantic import BaseModel

from deployments import errors as deployments
from deployments.errors import DeploymentError
from deployments.model_spec import specs
from graphs.audio import errors as audio
from graphs.audio.formats import FORMATS, listed
from graphs.core.graph import Graph
from graphs.core.parameters import LARGEST_TIMEOUT_MS
from graphs.http import errors as http
from graphs.http.dependencies import DECODE
from graphs.http.events import event_types
from graphs.http.problems import MEDIA_TYPE
from graphs.http.request_id import FORMAT, HEADER
from graphs.http.responses import EVENTS, JSON
from graphs.http.schemas.errors import OpenAIErrorAnswer, Problem
from graphs.http.schemas.examples import ANSWERS, MARK, shown
from graphs.http.upload import RAW_TYPES
from graphs.rollouts import errors as rollouts

ERRORS: tuple[type[DeploymentError], ...] = (
    http.MalformedRequest,
    http.InvalidApiKey,
    http.CrossSiteRequest,
    http.UnknownHost,
    http.OperatorKeyNeeded,
    http.NotFound,
    http.ModelNotFound,
    http.MethodNotAllowed,
    http.NotAcceptable,
    http.BodyTooSlow,
    rollouts.RolloutConflict,
    http.AudioTooLarge,
    audio.AudioTooLong,
    http.BodyTooLarge,
    http.UnsupportedMediaType,
    audio.AudioEmpty,
    audio.AudioUndecodable,
    deployments.NoSpeech,
    deployments.InvalidInput,
    deployments.ContentRefused,
    http.RateLimitExceeded,
    http.HeadersTooLarge,
    deployments.Overloaded,
    deployments.ModelUnavailable,
    deployments.DeadlineExceeded,
    deployments.DeadlineUnreachable,
    deployments.DeploymentError,
)
"""Every error that a client can get: docs/errors.md has what it should do then."""

MIDDLEWARE = (http.CrossSiteRequest, http.UnknownHost, http.HeadersTooLarge)
"""Responses of any route, before it is reached."""
GRAPH = tuple(error for error in ERRORS if error not in (http.ModelNotFound, http.BodyTooLarge, rollouts.RolloutConflict))
"""Responses of a graph's route."""

RECORDING = {"type": "string", "format": "binary", "description": f"{listed(FORMATS, 'or')}; the content decides."}
HEADERS = {
    HEADER: "The client's, where it matches [A-Za-z0-9._-]{1,64}; else a new one.",
    "Server-Timing": "Milliseconds of each stage that ran; absent from a stream.",
    "X-Trace-ID": "For operators: the id of the request's trace; absent where the service keeps none.",
    "traceresponse": "Where the request has a valid `traceparent`: its trace's id, and the id of the service's first span in it.",
    "X-Decode-Warnings": "Sentences about what was left out of a damaged recording; absent where nothing was.",
    "X-Degraded": "Soft stages that failed; absent where none did.",
    "Retry-After": "Seconds after which trying again makes sense.",
    "WWW-Authenticate": "Bearer",
}
TRACE = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": f"W3C's trace context, {meaning}; a malformed one is ignored.",
        "schema": {"type": "string"},
    }
    for name, meaning in (
        ("traceparent", "in which the service goes on"),
        ("tracestate", "at most 32 members and 512 characters"),
    )
]
TIMEOUT = {
    "name": "X-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "The same as the parameter timeout_ms; the smaller of both counts.",
    "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_TIMEOUT_MS},
}
REQUEST_ID = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The name of this request in the answer, its problem and the log; a malformed one is replaced.",
    "schema": {"type": "string", "pattern": f"^{FORMAT.pattern}$"},
}
KEY = HTTPBearer(auto_error=False, scheme_name="key", description="An API key, where the service has any (http.api_keys_file).")
"""A part of the document only: `Access` reads the header itself."""


def _with_stages(schema: dict[str, Any]) -> dict[str, Any]:
    schema["properties"]["stage"] = {"type": ["string", "null"], "enum": [DECODE, *specs(), None]}
    return schema


PROBLEM, OPENAI_ERROR = _with_stages(Problem.inline()), OpenAIErrorAnswer.inline()


def graph(graph: Graph[Any, Any]) -> dict[str, Any]:
    """Keyword arguments for the graph's route."""
    properties = graph.parameters.model_json_schema()["properties"]
    form = {"type": "object", "required": ["file"], "properties": {"file": RECORDING, **properties}}
    raw = {"schema": RECORDING}
    return {
        "responses": {200: _answer(graph), **problems(GRAPH)},
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "query", "required": False, "description": schema.get("description", ""), "schema": schema}
                for name, schema in properties.items()
            ]
            + [TIMEOUT, REQUEST_ID, *TRACE],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": form}, "audio/*": raw, **dict.fromkeys(RAW_TYPES, raw)},
            },
        },
    }


def _answer(graph: Graph[Any, Any]) -> dict[str, Any]:
    progress = tuple(event for spec in graph.models for event in spec.events)
    stream = {"description": f"Server-sent events while the request is worked on: {', '.join(event_types(graph, progress))}."}
    soft = len(graph.models) > len(graph.required_models())
    named = (
        HEADER,
        *graph.headers,
        "Server-Timing",
        "X-Trace-ID",
        "traceresponse",
        "X-Decode-Warnings",
        *(["X-Degraded"] if soft else []),
    )
    return {
        "description": graph.summary,
        "model": graph.answer,
        "headers": headers(*named, more=graph.headers),
        "content": {
            **{media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in graph.formats},
            JSON: shown(graph.path),
            EVENTS: {"schema": stream, **shown(f"{graph.path} stream")},
        },
    }


def health(route: str, summary: str) -> dict[str, Any]:
    """Keyword arguments for a route of the probes."""
    errors = (deployments.Overloaded, deployments.ModelUnavailable, deployments.DeadlineExceeded, deployments.DeploymentError)
    return {"summary": summary, "responses": {200: {"description": summary, "content": {JSON: shown(route)}}, **problems(errors)}}


def answer(description: str, name: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a JSON answer, with its example in ANSWERS."""
    return {200: {"description": description, "content": {JSON: shown(name)}}}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's `requestBody` of a JSON body that the route parses itself."""
    schema = model.model_json_schema()
    return {"required": True, "content": {JSON: {"schema": _inlined(schema, schema.pop("$defs", {}))}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with each reference replaced by its definition."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    return [_inlined(one, definitions) for one in schema] if isinstance(schema, list) else schema


def problems(classes: tuple[type[DeploymentError], ...], openai: bool = False) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of these errors, by status; `openai`: in OpenAI's shape."""
    by_status: dict[int | str, list[type[DeploymentError]]] = {}
    for error in classes:
        by_status.setdefault(error.status, []).append(error)
    return {status: _problem(same, openai) for status, same in by_status.items()}


def _problem(same: list[type[DeploymentError]], openai: bool) -> dict[str, Any]:
    names = {error.code: f"{'openai' if openai else 'problem'} {error.code}" for error in same}
    examples = {code: {"value": MARK + name} for code, name in names.items() if name in ANSWERS}
    shape = {"schema": OPENAI_ERROR if openai else PROBLEM}
    described = [HEADER]
    if any(error.retry_after_s is not None or error is http.RateLimitExceeded for error in same):
        described.append("Retry-After")
    if any(error is http.InvalidApiKey for error in same):
        described.append("WWW-Authenticate")
    return {
        "description": "; ".join(f"`{error.code}`: {error.title}" for error in same),
        "headers": headers(*described),
        "content": {JSON if openai else MEDIA_TYPE: {**shape, **({"examples": examples} if examples else {})}},
    }


def headers(*names: str, more: Any = None) -> dict[str, Any]:
    """`more`: meanings of headers beside HEADERS."""
    meanings = {**HEADERS, **(more or {})}
    return {name: {"description": meanings[name], "schema": {"type": "string"}} for name in names}


def headers_of(graphs: Iterable[Graph[Any, Any]]) -> list[str]:
    """The response headers that scripts of other origins may read."""
    return list(dict.fromkeys((*(name for graph in graphs for name in graph.headers), *HEADERS)))
