"""A request's trace as HTTP has it: its client's context, and the root's attributes by OpenTelemetry's conventions for servers.

No query, no User-Agent and no client's address: they may hold words, or name a person.
"""

import re
from urllib.parse import quote

from starlette.requests import Request

from deployments.span import TraceContext, Value
from graphs.tracing.trace import Trace

HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
"""A Host header, and with it its bound."""
MOST_PATH = 256
"""Characters of a path."""
PORTS = {"http": 80, "https": 443}


def client_context(request: Request) -> TraceContext | None:
    """The client's trace context; a second `traceparent` is malformed, and several `tracestate` are one, as W3C has them."""
    headers = request.headers
    return TraceContext.parse(", ".join(headers.getlist("traceparent")), ",".join(headers.getlist("tracestate")))


def attributes(request: Request) -> dict[str, Value]:
    """The root's attributes at the request's begin."""
    scope = request.scope
    scheme = "https" if scope.get("scheme") == "https" else "http"
    found: dict[str, Value] = {
        "http.request.method": scope["method"],
        "http.route": scope["route"].path,
        "url.path": quote(scope["path"])[:MOST_PATH],
        "url.scheme": scheme,
        "network.protocol.version": scope["http_version"],
    }
    if host := HOST.fullmatch(request.headers.get("host", "")):
        found |= {"server.address": host[1].strip("[]"), "server.port": int(host[2] or PORTS[scheme])}
    return found


def response_headers(trace: Trace | None) -> dict[str, str]:
    """The context for a client that has sent one: its own trace's id, and the id of this service's first span in it."""
    return {"traceresponse": trace.traceresponse} if trace is not None and trace.traceresponse else {}
