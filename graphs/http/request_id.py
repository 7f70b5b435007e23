"""Request ids: the client's X-Request-ID where it is well formed, else a new one."""

import re
import uuid

from starlette.requests import Request

HEADER = "X-Request-ID"
FORMAT = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(request: Request) -> str:
    """The request's id, the same whenever it is asked for."""
    if not hasattr(request.state, "request_id"):
        sent = request.headers.get(HEADER, "")
        request.state.request_id = sent if FORMAT.fullmatch(sent) else uuid.uuid4().hex
    return str(request.state.request_id)
