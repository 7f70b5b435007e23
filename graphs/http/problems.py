"""The one shape of every error: RFC 9457 problem details with a stable `code`, the `stage` and the `request_id`."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from deployments.errors import DeploymentError, InvalidInput
from graphs.http import tracing
from graphs.http.errors import MalformedRequest, MethodNotAllowed, NotFound
from graphs.http.request_id import request_id

log = logging.getLogger("ray.serve")
MEDIA_TYPE = "application/problem+json"


def problem(error: DeploymentError, id: str, path: str) -> Response:
    """The response, in OpenAI's shape where `path`, the request's, is of its API."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 408:
        headers["Connection"] = "close"  # the rest of the body is not waited for
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
    """The error object of OpenAI's API: https://platform.openai.com/docs/guides/error-codes"""
    types = {401: "authentication_error", 429: "rate_limit_error"}
    type = types.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"message": str(error), "type": type, "param": error.param, "code": error.code}


def translate_error(error: Exception, id: str) -> DeploymentError:
    """The error itself where it is a client's or a known one; a defect goes to the log, under the request's id, not to the client."""
    if isinstance(error, DeploymentError) and error.status != 500:
        return error
    stage = error.stage if isinstance(error, DeploymentError) else None
    log.error("request %s failed in %s", id, stage or "the ingress", exc_info=error)
    defect = DeploymentError(f"the service failed on this request: its log has the reason under the id {id}")
    defect.stage = stage
    return defect


def install(app: FastAPI) -> None:
    """Make `app` answer every error in this shape: its own, FastAPI's and defects."""

    def respond(request: Request, error: DeploymentError) -> Response:
        response = problem(error, request_id(request), request.url.path)
        response.headers.update(tracing.response_headers(getattr(request.state, "trace", None)))
        return response

    async def own(request: Request, error: Exception) -> Response:
        return respond(request, translate_error(error, request_id(request)))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return respond(request, NotFound("there is nothing at this path: the service's routes are listed at /docs"))
        if error.status_code == 405:
            refused = respond(request, MethodNotAllowed(f"this path does not take the method {request.method}"))
            allowed = (error.headers or {}).get("Allow", "")
            refused.headers["Allow"] = f"{allowed}, HEAD" if "GET" in allowed and "HEAD" not in allowed else allowed
            return refused
        return respond(request, MalformedRequest(HTTPStatus(error.status_code).phrase))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, InvalidInput("; ".join(str(details["msg"]) for details in error.errors())))

    async def disconnected(request: Request, error: Exception) -> Response:
        return respond(request, MalformedRequest("the client disconnected before its request was complete"))

    app.add_exception_handler(DeploymentError, own)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, disconnected)
    app.add_exception_handler(Exception, own)
