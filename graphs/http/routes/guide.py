"""`GET /docs/guide`: the documentation as pages, from the files that `make docs` writes. They load nothing from another address."""

import base64
import hashlib
import mimetypes
import re
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, RedirectResponse, Response

from graphs.http.errors import NotFound
from graphs.http.services import Services

FILES = Path(__file__).parents[1] / "guide"
FIRST = "docs/index.html"
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
POLICY = (
    "default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The theme's pages have inline styles, and one script that sets light or dark before they are drawn: `hashes` allows that one."""


def router(services: Services, folder: Path = FILES) -> APIRouter:
    routes = APIRouter()
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    headers = {**HEADERS, "Content-Security-Policy": POLICY.format(hashes=_hashes(files))}

    @routes.get("/docs/guide", include_in_schema=False)
    async def guide() -> Response:
        if FIRST not in files:
            raise NotFound("this installation has no guide: `make docs` builds it")
        return RedirectResponse(f"/docs/guide/{FIRST}")

    @routes.get("/docs/guide/{name:path}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise NotFound("the guide has no such page: /docs/guide is its first one")
        media_type = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
        return FileResponse(files[name], headers=headers, media_type=media_type)

    return routes


def _hashes(files: dict[str, Path]) -> str:
    """Return the sources of the policy that allow the inline scripts of the first page and of the search."""
    pages = [files[name].read_text(encoding="utf-8") for name in (FIRST, "search.html") if name in files]
    scripts = {script for page in pages for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)}
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in sorted(scripts)]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
