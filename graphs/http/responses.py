"""A graph's answer as HTTP: content negotiation, headers, JSON."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import mimeparse
from starlette.responses import JSONResponse, Response

from graphs.core.context import RequestContext
from graphs.core.graph import Graph
from graphs.http import tracing
from graphs.http.errors import NotAcceptable

JSON = "application/json"
EVENTS = "text/event-stream"
HEADER_BYTES = 1024
"""Longest header of text from a request or a model."""


def negotiate(accept: str | None, output_format: str | None, formats: Mapping[str, str]) -> tuple[str, str | None]:
    """The answer's media type and format, of `formats` by media type; `output_format` precedes the formats in Accept.

    Raises NotAcceptable.
    """
    named = [media_type for media_type, format in formats.items() if output_format in (None, format)]
    offered = [EVENTS, JSON, *reversed(named)]  # of equals mimeparse takes the last
    try:
        chosen = mimeparse.best_match(offered, (accept or "*/*").lower())
    except ValueError as error:
        raise NotAcceptable("the Accept header cannot be read: write media types, as in Accept: image/png") from error
    if not chosen and output_format is not None and named:
        chosen = named[0]
    if not chosen:
        raise NotAcceptable(f"the answer can be {', '.join((*formats, JSON, EVENTS))}, and Accept takes none of them: name one")
    return chosen, output_format or formats.get(chosen, next(iter(formats.values()), None))


def response(graph: Graph[Any, Any], result: Any, parameters: Any, media_type: str, context: RequestContext) -> Response:
    headers = {
        **{name: percent_encoded(text) for name, text in graph.response_headers(result).items()},
        **recording_headers(context),
        "Vary": "Accept",
    }
    if context.degraded:
        headers["X-Degraded"] = ", ".join(context.degraded)
    if media_type != JSON:
        return Response(graph.encoded(result), headers=headers, media_type=media_type)
    return JSONResponse(graph.to_answer(result, parameters, context).content(), headers=headers)


def server_timing(timings_ms: Mapping[str, float]) -> str:
    return ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in timings_ms.items())


def trace_headers(context: RequestContext) -> dict[str, str]:
    """The headers of every answer about its trace: one by which an operator finds it, and one for a client that has sent its context."""
    own = {"X-Trace-ID": context.trace.id} if context.trace is not None and context.may_read_trace else {}
    return own | tracing.response_headers(context.trace)


def request_headers(context: RequestContext) -> dict[str, str]:
    """Headers of every answer but a stream."""
    return {"Server-Timing": server_timing(context.timings_ms), **trace_headers(context)}


def recording_headers(context: RequestContext) -> dict[str, str]:
    """Headers of every answer to a recording but a stream."""
    warnings = "; ".join(context.decode_warnings)[:HEADER_BYTES]
    printable = "".join(character if " " <= character <= "~" else "?" for character in warnings)
    return request_headers(context) | ({"X-Decode-Warnings": printable} if printable else {})


def percent_encoded(text: str) -> str:
    """UTF-8, percent-encoded, at most 1 KiB, cut at a character."""
    whole = ""
    for character in text:
        encoded = quote(character, safe="")
        if len(whole) + len(encoded) > HEADER_BYTES:
            break
        whole += encoded
    return whole
