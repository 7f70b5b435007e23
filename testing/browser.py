"""A tab of a real Chromium: a user's actions on the page, and a record of every request, console message and policy violation."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, expect

from testing.service import ROOT

CHROMIUM = shutil.which("chromium")
SHOTS = ROOT / "build" / "page"
"""Screenshots of the tests, for visual inspection."""
PHONE, DESK = (360, 640), (1280, 800)
DRAWN_MS = 60_000.0
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
window.blobs = new Set();
const { createObjectURL, revokeObjectURL } = URL;
URL.createObjectURL = (blob) => {
  const url = createObjectURL.call(URL, blob);
  window.blobs.add(url);
  return url;
};
URL.revokeObjectURL = (url) => {
  window.blobs.delete(url);
  revokeObjectURL.call(URL, url);
};
window.seen = [];
new MutationObserver((records) => {
  for (const { target } of records) {
    const text = target === document.body ? document.body.dataset.canvas : document.getElementById("status")?.textContent;
    if (text && text !== window.seen.at(-1)) window.seen.push(text);
  }
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-canvas"] });
"""
"""Script that records each content of the canvas and each status in `window.seen`, and the object URLs that exist in `window.blobs`."""


def launch(playwright: Playwright, *flags: str) -> Browser:
    """Start Chromium; it ends with Playwright."""
    if CHROMIUM is None:
        pytest.skip("chromium is not on this machine (on Debian: apt install chromium)")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])


def fake_microphone(wav: Path) -> tuple[str, ...]:
    """Return Chromium's flags for a microphone that plays this file once, with permission granted."""
    file = f"--use-file-for-fake-audio-capture={wav}%noloop"
    return "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", file


class Tab:
    """A tab at `url`. `expected` holds parts of the console messages that are allowed."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.context = context
        self.expected: list[str] = []
        self.requests: list[str] = []
        self.messages: list[str] = []
        context.add_init_script(WATCH)
        context.on("request", lambda request: self.requests.append(request.url))
        context.on(
            "console", lambda message: self.messages.append(message.text) if message.type in ("error", "warning") else None
        )
        context.on("weberror", lambda error: self.messages.append(str(error.error)))
        self.page: Page = context.new_page()
        self.page.goto(url)
        expect(self.state("idle")).to_be_visible()

    def __getattr__(self, name: str) -> Locator:
        """Return the element with this id: `tab.open_settings` is `#open-settings`."""
        return self.page.locator(f"#{name.replace('_', '-')}")

    @property
    def pictures(self) -> Locator:
        return self.page.locator("#gallery li button")

    @property
    def prompt(self) -> str:
        return self.page.locator("#prompt").inner_text()

    @property
    def seed(self) -> str:
        return self.fact("Seed")

    @property
    def seen(self) -> list[str]:
        return list(self.page.evaluate("window.seen"))

    @property
    def blobs(self) -> int:
        """Object URLs that the page has made and not revoked: each keeps its bytes in memory."""
        return int(self.page.evaluate("window.blobs.size"))

    def fact(self, term: str) -> str:
        return self.facts.locator(f"div:has(dt:text-is('{term}')) dd").inner_text()

    def state(self, name: str) -> Locator:
        return self.page.locator(f"body[data-state={name}]")

    def upload(self, recording: bytes | Path, name: str = "recording.ogg") -> None:
        file: Any = recording if isinstance(recording, Path) else {"name": name, "mimeType": "audio/ogg", "buffer": recording}
        self.file.set_input_files(file)

    def wait_for_images(self, count: int) -> None:
        """Wait until the gallery has `count` images and the newest is shown."""
        expect(self.failure).to_be_hidden()  # the new request hides an earlier failure
        expect(self.pictures.or_(self.failure.filter(visible=True))).to_have_count(count, timeout=DRAWN_MS)
        assert not self.failure.is_visible(), self.failure.inner_text()
        expect(self.result).to_be_visible()

    def wait_for_failure(self, title: str) -> str:
        """Wait for a failure with this title and return its remedy."""
        expect(self.failure_title).to_have_text(title, timeout=DRAWN_MS)
        expect(self.state("idle")).to_be_visible()
        return self.failure_detail.inner_text()

    def settings(self, **fields: str) -> None:
        self.open_settings.click()
        for name, value in fields.items():
            self.page.locator(f"#settings [name={name}]").fill(value)
        self.page.get_by_role("button", name="Done").click()
        expect(self.page.locator("#settings")).to_be_hidden()

    def downloaded(self) -> bytes:
        with self.page.expect_download() as download:
            self.download.click()
        return download.value.path().read_bytes()

    def screenshot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    def overflow_px(self) -> int:
        """Return how much wider the page is than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def check_isolation(self) -> None:
        """Check that the page sent no request to another host and that the console shows expected messages only."""
        assert self.requests
        assert not [one for one in self.requests if not one.startswith((f"{self.url}/", f"blob:{self.url}/"))]
        assert not [one for one in self.messages if not any(part in one for part in self.expected)]


@contextlib.contextmanager
def open_tab(browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any) -> Iterator[Tab]:
    """Open a tab in a fresh browser context and check its isolation at the end."""
    width, height = size
    with browser.new_context(viewport={"width": width, "height": height}, **options) as context:
        tab = Tab(context, url)
        yield tab
        tab.check_isolation()
