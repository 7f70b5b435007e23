"""What OpenAPI says of POST /graph: its body, parameters, answers and errors, made from the classes that decide them."""

from typing import Any

from deployments import errors as rooms
from deployments.errors import DeploymentError
from graphs.http import errors as http
from graphs.http.answers import EVENTS, IMAGES, JSON
from graphs.http.deadline import LARGEST_TIMEOUT_MS
from graphs.http.events import TYPES
from graphs.http.parameters import DrawParameters
from graphs.http.problems import MEDIA_TYPE, SCHEMA
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

RECORDING = {"type": "string", "format": "binary", "description": "wav, mp3, flac, ogg, opus, webm or m4a; the content decides."}
HEADERS = {
    "X-Request-ID": "The client's, where it matches [A-Za-z0-9._-]{1,64}; else a new one.",
    "X-Transcript": "What was said: UTF-8, percent-encoded, at most 1 KiB.",
    "X-Seed": "The seed that was used.",
    "Server-Timing": "Milliseconds of decode, whisper, diffusion and encode.",
}
JSON_ANSWER: dict[str, Any] = {
    "type": "object",
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


def post_graph() -> dict[str, Any]:
    """Keyword arguments for the route."""
    properties = DrawParameters.model_json_schema()["properties"]
    form = {"type": "object", "required": ["file"], "properties": {"file": RECORDING, **properties}}
    raw = {"schema": RECORDING}
    return {
        "responses": {200: _drawing(), **problems(ERRORS)},
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "query", "required": False, "description": schema.get("description", ""), "schema": schema}
                for name, schema in properties.items()
            ]
            + [TIMEOUT],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": form}, "audio/*": raw, **dict.fromkeys(RAW_TYPES, raw)},
            },
        },
    }


def problems(classes: tuple[type[DeploymentError], ...]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of these errors, by status."""
    by_status: dict[int | str, list[type[DeploymentError]]] = {}
    for error in classes:
        by_status.setdefault(error.status, []).append(error)
    return {
        status: {
            "description": "; ".join(f"`{error.code}`: {error.title}" for error in same),
            "content": {MEDIA_TYPE: {"schema": SCHEMA}},
        }
        for status, same in by_status.items()
    }


def _drawing() -> dict[str, Any]:
    return {
        "description": "The picture, or everything about it as JSON",
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
        "content": {
            **{media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in IMAGES},
            JSON: {"schema": JSON_ANSWER},
            EVENTS: {"schema": {"type": "string", "description": f"Server-sent events while it is made: {', '.join(TYPES)}."}},
        },
    }
