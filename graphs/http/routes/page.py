"""`GET /`: the page, its files and the spoken samples, read once; its policy lets a browser load nothing else."""

import hashlib
import json
import mimetypes
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from graphs.http.services import Services

FILES = Path(__file__).parents[1] / "static"
SAMPLES = Path(__file__).parents[2] / "samples"
TYPES = {".js": "text/javascript", ".ogg": "audio/ogg", ".wav": "audio/wav", ".svg": "image/svg+xml"}
"""Media types that Python's table lacks, or that a machine's own table may change."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and validated each time: after an update no old module runs beside a new one
}


def router(services: Services) -> APIRouter:
    """A route for each file. One of them has what the page needs to know of the settings. Without a graph that draws there is no page."""
    routes = APIRouter()
    text_to_image = services.find("text_to_image")
    if text_to_image is None or services.find("speech_to_text") is None:
        return routes
    limits = {
        "max_duration_s": services.audio.max_duration_s,
        "max_upload_bytes": services.settings.max_upload_bytes,
        "max_side_px": getattr(text_to_image.settings, "max_side_px", None),
        "may_keep_content": services.may_keep_content,
    }
    _add(routes, "/page/limits.json", json.dumps(limits).encode(), "application/json")
    _add(routes, "/", (FILES / "index.html").read_bytes(), "text/html")
    for folder, path in ((FILES, "/page"), (SAMPLES, "/samples")):
        for file in sorted(folder.iterdir()):
            if file.name != "index.html":
                media_type = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                _add(routes, f"{path}/{file.name}", file.read_bytes(), media_type)
    return routes


def _add(routes: APIRouter, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag}

    async def answer(request: Request) -> Response:
        if _has(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    routes.add_route(path, answer, include_in_schema=False)


def _has(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
