"""What OpenAPI says of POST /graph: its body, parameters, answers and errors, made from the classes that decide them."""

from typing import Any

from fastapi.security import HTTPBearer

from deployments import errors as rooms
from deployments.errors import DeploymentError
from graphs.audio.decode import FORMATS, listed
from graphs.http import errors as http
from graphs.http.deadline import LARGEST_TIMEOUT_MS
from graphs.http.events import TYPES
from graphs.http.parameters import DrawParameters
from graphs.http.problems import MEDIA_TYPE, OPENAI_SCHEMA, SCHEMA
from graphs.http.problems import REQUEST_ID as REQUEST_ID_PATTERN
from graphs.http.responses import EVENTS, IMAGES, JSON
from graphs.http.schemas.examples import ANSWERS, MARK, shown
from graphs.http.upload import RAW_TYPES

ERRORS: tuple[type[DeploymentError], ...] = (
    http.MalformedRequest,
    http.InvalidApiKey,
    http.NotFound,
    http.ModelNotFound,
    http.MethodNotAllowed,
    http.NotAcceptable,
    http.AudioTooLarge,
    http.AudioTooLong,
    http.BodyTooLarge,
    http.UnsupportedMediaType,
    http.AudioEmpty,
    http.AudioUndecodable,
    rooms.NoSpeech,
    rooms.InvalidInput,
    rooms.ContentRefused,
    http.RateLimitExceeded,
    rooms.Overloaded,
    rooms.ModelUnavailable,
    rooms.DeadlineExceeded,
    rooms.DeadlineUnreachable,
    rooms.DeploymentError,
)
"""Every error that a client can get, in the order of the README's table."""

GRAPH = tuple(error for error in ERRORS if error not in (http.ModelNotFound, http.BodyTooLarge))
"""Those of POST /graph."""

RECORDING = {"type": "string", "format": "binary", "description": f"{listed(FORMATS, 'or')}; the content decides."}
HEADERS = {
    "X-Request-ID": "The client's, where it matches [A-Za-z0-9._-]{1,64}; else a new one.",
    "X-Transcript": "What was said: UTF-8, percent-encoded, at most 1 KiB.",
    "X-Seed": "The seed that was used.",
    "Server-Timing": "Milliseconds of those of decode, whisper, diffusion and encode that ran.",
    "Retry-After": "Seconds after which trying again makes sense.",
    "WWW-Authenticate": "Bearer",
}
JSON_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": [
        "request_id",
        "transcript",
        "language",
        "segments",
        "prompt",
        "prompt_truncated",
        "seed",
        "image",
        "timings_ms",
        "models",
    ],
    "properties": {
        "request_id": {"type": "string"},
        "transcript": {"type": "string"},
        "language": {"type": "string", "description": "ISO 639-1 code"},
        "segments": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "start": {"type": "number", "description": "s"},
                    "end": {"type": "number", "description": "s"},
                    "text": {"type": "string"},
                    "avg_logprob": {"type": "number"},
                    "no_speech_prob": {"type": "number"},
                },
            },
        },
        "prompt": {"type": "string", "description": "What was drawn: the prefix, and the transcript."},
        "prompt_truncated": {"type": "boolean", "description": "The text encoder reads 77 tokens; the rest was not drawn."},
        "seed": {"type": "integer"},
        "image": {
            "type": "object",
            "properties": {
                "media_type": {"type": "string", "enum": list(IMAGES)},
                "base64": {"type": "string"},
                "width": {"type": "integer"},
                "height": {"type": "integer"},
            },
        },
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        "models": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}

TIMEOUT = {
    "name": "X-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "As the parameter timeout_ms; the smaller of both counts.",
    "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_TIMEOUT_MS},
}


REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "What the answer, its problem and the log call this request; another one than this pattern's is replaced.",
    "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN.pattern}$"},
}
KEY = HTTPBearer(auto_error=False, scheme_name="key", description="An API key, where the service has any (http.keys).")
"""Is there for the document: `Access` looks at the header itself."""


def post_graph() -> dict[str, Any]:
    """Keyword arguments for the route."""
    properties = DrawParameters.model_json_schema()["properties"]
    form = {"type": "object", "required": ["file"], "properties": {"file": RECORDING, **properties}}
    raw = {"schema": RECORDING}
    return {
        "responses": {200: _drawing(), **problems(GRAPH)},
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "query", "required": False, "description": schema.get("description", ""), "schema": schema}
                for name, schema in properties.items()
            ]
            + [TIMEOUT, REQUEST_ID],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": form}, "audio/*": raw, **dict.fromkeys(RAW_TYPES, raw)},
            },
        },
    }


def healthz() -> dict[str, Any]:
    schema = record(status={"type": "string"}, requests={"type": "integer", "description": "That are in it now."})
    return _health("/healthz", "This process answers", schema)


def readyz() -> dict[str, Any]:
    schema = record(status={"type": "string"}, rooms={"type": "object", "additionalProperties": {"type": "string"}})
    return _health("/readyz", "Every room has answered an inference and serves", schema)


def _health(route: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    errors = problems((rooms.Overloaded, rooms.ModelUnavailable, rooms.DeadlineExceeded, rooms.DeploymentError))
    content = {JSON: {"schema": schema, **shown(route)}}
    return {"summary": summary, "responses": {200: {"description": summary, "content": content}, **errors}}


def problems(classes: tuple[type[DeploymentError], ...], openai: bool = False) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of these errors, by status; `openai`: in OpenAI's shape."""
    by_status: dict[int | str, list[type[DeploymentError]]] = {}
    for error in classes:
        by_status.setdefault(error.status, []).append(error)
    return {status: _problem(same, openai) for status, same in by_status.items()}


def _problem(same: list[type[DeploymentError]], openai: bool) -> dict[str, Any]:
    names = {error.code: f"{'openai' if openai else 'problem'} {error.code}" for error in same}
    examples = {code: {"value": MARK + name} for code, name in names.items() if name in ANSWERS}
    shape = {"schema": OPENAI_SCHEMA if openai else SCHEMA, **({"examples": examples} if examples else {})}
    described = ["X-Request-ID"]
    if any(error.retry_after_s is not None or error is http.RateLimitExceeded for error in same):
        described.append("Retry-After")
    if any(error is http.InvalidApiKey for error in same):
        described.append("WWW-Authenticate")
    return {
        "description": "; ".join(f"`{error.code}`: {error.title}" for error in same),
        "headers": headers(*described),
        "content": {JSON if openai else MEDIA_TYPE: shape},
    }


def headers(*names: str) -> dict[str, Any]:
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}


def record(**properties: Any) -> dict[str, Any]:
    """An object's schema that always has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _drawing() -> dict[str, Any]:
    stream = {"description": f"Server-sent events while it is made: {', '.join(TYPES)}."}
    return {
        "description": "The picture, or everything about it as JSON",
        "headers": headers("X-Request-ID", "X-Transcript", "X-Seed", "Server-Timing"),
        "content": {
            **{media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in IMAGES},
            JSON: {"schema": JSON_ANSWER, **shown("/graph")},
            EVENTS: {"schema": stream, **shown("/graph stream")},
        },
    }
