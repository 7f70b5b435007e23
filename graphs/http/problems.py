"""Every error's one shape: RFC 9457 problem details with a stable `code`, the `stage` and the `request_id`."""

import logging
import re
import uuid
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from deployments.errors import DeploymentError, InvalidInput
from graphs.http.errors import MalformedRequest, MethodNotAllowed, NotFound

log = logging.getLogger("ray.serve")
MEDIA_TYPE = "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "urn:sonograph:problem: and the code"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, which bound, and what to do."},
        "code": {"type": "string", "description": "Stable name of the error."},
        "stage": {"type": ["string", "null"], "enum": ["decode", "whisper", "diffusion", None]},
        "request_id": {"type": "string"},
    },
}

OPENAI_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What was wrong, which bound, and what to do."},
                "type": {
                    "type": "string",
                    "enum": ["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"],
                },
                "param": {"type": ["string", "null"], "description": "The parameter that is at fault, where it is one."},
                "code": {"type": "string", "description": "Stable name of the error."},
            },
        }
    },
}


def request_id(request: Request) -> str:
    """The client's X-Request-ID where it is well formed, as the proxy lets through; else a new one."""
    if not hasattr(request.state, "request_id"):
        given = request.headers.get("x-request-id", "")
        request.state.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return str(request.state.request_id)


def problem(error: DeploymentError, id: str, path: str) -> Response:
    """In OpenAI's shape where `path`, the request's, is of its API."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path.startswith("/v1/"):
        return JSONResponse({"error": openai_content(error)}, error.status, headers)
    return JSONResponse(content(error, id), error.status, headers, MEDIA_TYPE)


def content(error: DeploymentError, id: str) -> dict[str, Any]:
    return {
        "type": f"urn:sonograph:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "stage": error.stage,
        "request_id": id,
    }


def openai_content(error: DeploymentError) -> dict[str, Any]:
    """As OpenAI's clients expect it: https://platform.openai.com/docs/guides/error-codes"""
    types = {401: "authentication_error", 429: "rate_limit_error"}
    type = types.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"message": str(error), "type": type, "param": error.param, "code": error.code}


def known(error: Exception, id: str) -> DeploymentError:
    """The error itself if it is one of ours. Of a defect the log gets the reason, under the request's id; the client no traceback."""
    if isinstance(error, DeploymentError) and error.status != 500:
        return error
    stage = error.stage if isinstance(error, DeploymentError) else None
    log.error("request %s failed in %s", id, stage or "the ingress", exc_info=error)
    defect = DeploymentError(f"the service failed on this request: its log tells why under the id {id}")
    defect.stage = stage
    return defect


def install(app: FastAPI) -> None:
    """Makes `app` answer every error, its own, FastAPI's and defects, in this shape."""

    def answer(request: Request, error: DeploymentError) -> Response:
        return problem(error, request_id(request), request.url.path)

    async def ours(request: Request, error: Exception) -> Response:
        return answer(request, known(error, request_id(request)))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return answer(request, NotFound("there is nothing at this path: the service's routes are listed at /docs"))
        if error.status_code == 405:
            refused = answer(request, MethodNotAllowed(f"this path does not take the method {request.method}"))
            refused.headers.update(error.headers or {})
            return refused
        return answer(request, MalformedRequest(HTTPStatus(error.status_code).phrase))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, InvalidInput("; ".join(str(details["msg"]) for details in error.errors())))

    async def left(request: Request, error: Exception) -> Response:
        return answer(request, MalformedRequest("the client left before its request was complete"))

    app.add_exception_handler(DeploymentError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, ours)
