"""The page at `/`: its files and the spoken samples, read once; a browser may run and ask for nothing but these."""

import hashlib
import json
import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from graphs.http.settings import HttpSettings

FILES = Path(__file__).parents[1] / "static"
SAMPLES = Path(__file__).parents[2] / "samples"
TYPES = {".js": "text/javascript", ".ogg": "audio/ogg", ".wav": "audio/wav", ".svg": "image/svg+xml"}
"""Those that Python's table lacks, or that a machine's own may change."""
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
    "Cache-Control": "no-cache",  # kept, and asked after each time: after an update no old module meets a new one
}


def install(app: FastAPI, settings: HttpSettings, max_side_px: int) -> None:
    """Adds a route for each file. The bounds that the page has to know are one of them."""
    limits = {
        "max_audio_s": settings.max_audio_s,
        "max_upload_bytes": settings.max_upload_bytes,
        "max_side_px": max_side_px,
    }
    _add(app, "/page/limits.json", json.dumps(limits).encode(), "application/json")
    _add(app, "/", (FILES / "index.html").read_bytes(), "text/html")
    for folder, path in ((FILES, "/page"), (SAMPLES, "/samples")):
        for file in sorted(folder.iterdir()):
            if file.name != "index.html":
                media_type = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                _add(app, f"{path}/{file.name}", file.read_bytes(), media_type)


def _add(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag}

    async def answer(request: Request) -> Response:
        if _has(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    app.add_route(path, answer, include_in_schema=False)


def _has(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
