"""`GET /docs`: the OpenAPI document in Swagger UI, from files of this folder alone."""

import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from graphs.http.services import Services

FILES = Path(__file__).parents[1] / "swagger"
TYPES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "begin.js": "text/javascript; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No address but the service's own, and no inline script or style. Pictures are data and blobs."""
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def router(services: Services) -> APIRouter:
    routes = APIRouter()

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response((FILES / "index.html").read_bytes(), headers=HEADERS, media_type="text/html; charset=utf-8")

    for name, media_type in TYPES.items():
        routes.add_api_route(f"/docs/{name}", _file(name, media_type), include_in_schema=False)
    return routes


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    packed = FILES / f"{name}.gz"
    content = packed.read_bytes() if packed.is_file() else gzip.compress((FILES / name).read_bytes(), mtime=0)

    async def file(request: Request) -> Response:
        headers = {**HEADERS, "Vary": "Accept-Encoding", "Cache-Control": "max-age=3600"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(gzip.decompress(content), headers=headers, media_type=media_type)
        return Response(content, headers={**headers, "Content-Encoding": "gzip"}, media_type=media_type)

    return file
