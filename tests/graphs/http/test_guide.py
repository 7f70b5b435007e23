"""`/docs/guide`: its files, and a policy that lets a browser load nothing from elsewhere."""

import base64
import hashlib
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from graphs.http import problems
from graphs.http.routes import guide
from testing.fakes import FakeService

SCRIPT = "document.body.dataset.theme = 'auto'"
PAGE = f"<html><script>{SCRIPT}</script><script src='../_static/theme.js'></script></html>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"docs/index.html": PAGE, "_static/theme.js": "1", "docs/.buildinfo": "x", "../secret": "s"}.items():
        (tmp_path / "guide" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "guide" / name).write_text(text)
    return tmp_path / "guide"


def client(folder: Path) -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    app.include_router(guide.router(FakeService().services(), folder))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_the_guide_begins_at_its_first_page_and_each_file_has_its_type(folder: Path) -> None:
    async with client(folder) as http:
        first = await http.get("/docs/guide", follow_redirects=True)
        script = await http.get("/docs/guide/_static/theme.js")
    assert (first.url.path, first.text, first.headers["content-type"]) == (
        "/docs/guide/docs/index.html",
        PAGE,
        "text/html; charset=utf-8",
    )
    assert (script.text, script.headers["content-type"]) == ("1", "text/javascript; charset=utf-8")


async def test_of_inline_scripts_only_the_built_ones_run(folder: Path) -> None:
    async with client(folder) as http:
        policy = (await http.get("/docs/guide/docs/index.html")).headers["content-security-policy"]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")


@pytest.mark.parametrize(
    "path", ["missing.html", "../secret", "%2e%2e/secret", "docs/../../secret", "docs", "/etc/passwd", "%00"]
)
async def test_a_path_that_is_no_built_file_is_not_found(folder: Path, path: str) -> None:
    async with client(folder) as http:
        answer = await http.get(httpx.URL("http://test/", raw_path=f"/docs/guide/{path}".encode()))
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_without_a_built_guide_the_answer_says_what_builds_it(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        answer = await http.get("/docs/guide")
    assert answer.status_code == 404
    assert "make docs" in answer.json()["detail"]
