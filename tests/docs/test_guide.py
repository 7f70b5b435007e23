"""The guide: it builds without a warning, each document is in it, and a real Chromium shows each page, light and dark, desk and phone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright

from graphs.http import problems
from graphs.http.routes import guide
from testing.browser import DESK, PHONE, launch
from testing.fakes import FakeService
from testing.service import ROOT
from testing.serving import serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built guide."""
    out = tmp_path_factory.mktemp("guide")
    strict = ("--fail-on-warning", "--keep-going", "--nitpicky", "--quiet")  # those of `make docs`
    command = [sys.executable, "-m", "sphinx", *strict, "-b", "html", "-d", f"{out}/trees", "-c", "docs", ".", f"{out}/html"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return out / "html"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    app = FastAPI()
    problems.install(app)
    app.include_router(guide.router(FakeService().services(), folder))
    with serving(app) as at:
        yield f"{at}/docs/guide"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield launch(playwright)


def pages(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.html") if "_static" not in file.parts)


def test_each_document_is_a_page_and_the_contents_lead_to_it(folder: Path) -> None:
    documents = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert documents <= set(pages(folder))
    assert not list(folder.rglob("*.py")), "the guide is part of a package: no module may be in it"


@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", PHONE)])
def test_every_page_is_shown_without_a_violation_a_request_elsewhere_or_a_sideways_scroll(
    browser: Browser, url: str, folder: Path, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    asked: list[str] = []
    missing: list[str] = []
    messages: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("response", lambda response: missing.append(response.url) if response.status >= 400 else None)
    context.on("console", lambda message: messages.append(message.text) if message.type in ("error", "warning") else None)
    page = context.new_page()
    wide = []
    for name in pages(folder):
        answer = page.goto(f"{url}/{name}")
        assert answer is not None
        assert answer.status == 200, name
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(name)
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every((one) => one < 100)"
        )
        assert dark == (scheme == "dark"), name
    context.close()
    assert (wide, missing, messages) == ([], [], [])
    assert {address for address in asked if not address.startswith((f"{url}/", "data:"))} == set()


def test_the_search_finds_a_setting(browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.goto(f"{url}/search.html?q=max_queue_delay_s")
    page.wait_for_selector("#search-results li")
    assert "settings" in " ".join(page.locator("#search-results a").evaluate_all("links => links.map((link) => link.href)"))
    page.close()
