"""A drawing as HTTP: which representation the client takes, its headers, its JSON."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import mimeparse
from starlette.responses import JSONResponse, Response

from deployments.diffusion import Image
from deployments.whisper import Transcript
from graphs.http.errors import NotAcceptable

JSON = "application/json"
EVENTS = "text/event-stream"
IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
"""The picture's formats by media type; the first is the default."""
TRANSCRIPT_BYTES = 1024
"""Longest X-Transcript header."""


@dataclass(frozen=True)
class Drawing:
    """What a graph that draws hands to the edge."""

    transcript: Transcript
    prompt: str
    """What was drawn: the prefix, and the transcript."""
    seed: int
    image: Image
    timings_ms: dict[str, float]
    """By stage: decode, whisper, diffusion, encode."""


def negotiate(accept: str | None, output_format: str | None) -> tuple[str, str]:
    """The answer's media type and the picture's format. `output_format` comes before what Accept says of pictures.

    Raises NotAcceptable.
    """
    named = [media_type for media_type, format in IMAGES.items() if output_format in (None, format)]
    offered = [EVENTS, JSON, *reversed(named)]  # of equals mimeparse takes the last
    try:
        chosen = mimeparse.best_match(offered, (accept or "*/*").lower())
    except ValueError as error:
        raise NotAcceptable("the Accept header cannot be read") from error
    if not chosen and output_format is not None:
        chosen = named[0]
    if not chosen:
        raise NotAcceptable(f"the answer can be {', '.join((*IMAGES, JSON, EVENTS))}, and Accept takes none of them")
    return chosen, output_format or IMAGES.get(chosen, "png")


def answer(drawing: Drawing, media_type: str, format: str, request_id: str) -> Response:
    headers = {
        "X-Transcript": percent_encoded(drawing.transcript.text),
        "X-Seed": str(drawing.seed),
        "Server-Timing": server_timing(drawing.timings_ms),
        "Vary": "Accept",
    }
    if media_type != JSON:
        return Response(drawing.image.encoded, headers=headers, media_type=media_type)
    return JSONResponse(_json(drawing, format, request_id), headers=headers)


def server_timing(timings_ms: Mapping[str, float]) -> str:
    return ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in timings_ms.items())


def percent_encoded(text: str) -> str:
    """UTF-8, percent-encoded, at most 1 KiB, cut at a character."""
    whole = ""
    for character in text:
        encoded = quote(character, safe="")
        if len(whole) + len(encoded) > TRANSCRIPT_BYTES:
            break
        whole += encoded
    return whole


def _json(drawing: Drawing, format: str, request_id: str) -> dict[str, Any]:
    transcript = drawing.transcript
    return {
        "request_id": request_id,
        "transcript": transcript.text,
        "language": transcript.language,
        "segments": [asdict(segment) for segment in transcript.segments],
        **picture(drawing, format),
        "timings_ms": {stage: round(ms, 1) for stage, ms in drawing.timings_ms.items()},
    }


def picture(drawing: Drawing, format: str) -> dict[str, Any]:
    """The JSON answer's part on the picture and how it came about."""
    image = drawing.image
    return {
        "prompt": drawing.prompt,
        "prompt_truncated": image.prompt_truncated,
        "seed": drawing.seed,
        "image": {
            "media_type": f"image/{format}",
            "base64": base64.b64encode(image.encoded).decode("ascii"),
            "width": image.width,
            "height": image.height,
        },
        "models": {"whisper": drawing.transcript.model, "diffusion": image.model},
    }
