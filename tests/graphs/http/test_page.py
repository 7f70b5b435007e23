"""The page's files: complete, under a strict content security policy, without a request to another host."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from graphs.audio.settings import AudioSettings
from graphs.http.routes.page import FILES, SAMPLES
from graphs.http.settings import HttpSettings
from testing.fakes import FakeService

INDEX = (FILES / "index.html").read_text(encoding="utf-8")
MODULES = {file.name: file.read_text(encoding="utf-8") for file in FILES.glob("*.js")}
TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FakeService(HttpSettings(max_upload_bytes=1000), AudioSettings(max_duration_s=45)).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client


async def test_every_file_named_by_the_page_is_served_with_its_media_type(client: httpx.AsyncClient) -> None:
    named = set(re.findall(r'"((?:page|samples)/[^"]+)"', INDEX))
    named |= {f"page/{name}" for module in MODULES.values() for name in re.findall(r'from "\./([^"]+)"', module)}
    assert {f"page/{name}" for name in MODULES} <= named, "a module that no other module imports: remove it"
    assert named >= {"page/app.js", "page/style.css", "page/icon.svg"}
    for path in {"", *named}:
        answer = await client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].split(";")[0] == TYPES[path.rpartition(".")[2] or "html"]
        assert (
            answer.content
            == ((SAMPLES if path.startswith("samples") else FILES) / (path or "x/index.html").split("/")[1]).read_bytes()
        )


def test_every_sample_is_on_the_page() -> None:
    expected = {f"samples/{file.name}" for file in SAMPLES.iterdir() if file.suffix in (".wav", ".ogg")}
    assert set(re.findall(r'data-sample="([^"]+)"', INDEX)) == expected
    assert len(expected) >= 3


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/limits.json", "/samples/red-apple.wav"])
async def test_every_file_has_a_strict_policy_and_a_fixed_media_type(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert not re.search(r"unsafe|\*|https?:|data:", headers["content-security-policy"])
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/limits.json", "/samples/red-apple.wav"])
async def test_a_cached_file_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for cached in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await client.get(path, headers={"If-None-Match": cached})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).content == first.content
    head = await client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(first.content)))


async def test_the_page_needs_no_key_where_the_service_requires_one(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("anna 0123456789abcdef\n")
    app = FakeService(HttpSettings(api_keys_file=tmp_path / "keys")).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        for path in ("/", "/page/app.js", "/page/limits.json", "/samples/red-apple.wav"):
            assert (await client.get(path)).status_code == 200
        assert (await client.post("/graph")).status_code == 401


async def test_the_page_gets_the_services_bounds(client: httpx.AsyncClient) -> None:
    limits = (await client.get("/page/limits.json")).json()
    assert limits == {"max_duration_s": 45, "max_upload_bytes": 1000, "max_side_px": 256, "may_keep_content": False}


async def test_the_page_is_told_where_the_service_may_keep_what_it_gets() -> None:
    async with FakeService(may_keep_content=True).client() as client:
        assert (await client.get("/page/limits.json")).json()["may_keep_content"] is True


@pytest.mark.parametrize(
    "path", ["/page/../page.py", "/page/%2e%2e/page.py", "/page/", "/page/other.js", "/samples/../local.yaml", "/page/index.html"]
)
async def test_no_other_file_is_served(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(httpx.URL("http://service").copy_with(raw_path=path.encode()))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_pages_files_refuse_other_methods(client: httpx.AsyncClient) -> None:
    answer = await client.post("/page/app.js")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("name", sorted(file.name for file in FILES.iterdir()))
def test_a_file_names_no_other_host_and_is_at_most_300_lines_long(name: str) -> None:
    text = (FILES / name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"(?:https?:)?//([\w.-]+\.\w+)", text))
    assert hosts <= {"www.w3.org", "html.spec.whatwg.org"}, "only SVG's namespace and a format's specification may be named"
    assert text.count("\n") <= 300


def test_the_page_has_no_inline_style_or_script() -> None:
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", INDEX)
    assert re.findall(r"<script[^>]*>(.*?)</script>", INDEX, re.DOTALL) == [""]
    assert not [
        name for name, text in MODULES.items() if re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    ]
