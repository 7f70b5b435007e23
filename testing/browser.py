"""A real Chromium, and a person's tab in it: what a person does, and everything that the page did that it should not."""

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
"""Where the screens are left that a test has made, to be looked at."""
PHONE, DESK = (360, 640), (1280, 800)
DRAWN_MS = 60_000.0
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
window.seen = [];
new MutationObserver((records) => {
  for (const { target } of records) {
    const text = target === document.body ? document.body.dataset.shows : document.getElementById("status")?.textContent;
    if (text && text !== window.seen.at(-1)) window.seen.push(text);
  }
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-shows"] });
"""
"""Notes what the print shows and what the status says, one after the other."""


def launch(playwright: Playwright, *flags: str) -> Browser:
    """Ends by itself with Playwright."""
    if CHROMIUM is None:
        pytest.skip("chromium is not on this machine (on Debian: apt install chromium)")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])


def speaking(wav: Path) -> tuple[str, ...]:
    """The flags for a microphone that hears this file once, and a person who allows it."""
    file = f"--use-file-for-fake-audio-capture={wav}%noloop"
    return "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", file


class Visitor:
    """A tab at `url`. `expected`: parts of the messages that the console may show."""

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
        """The element with this id: `visitor.open_settings` is `#open-settings`."""
        return self.page.locator(f"#{name.replace('_', '-')}")

    @property
    def pictures(self) -> Locator:
        return self.page.locator("#strip li button")

    @property
    def prompt(self) -> str:
        return self.said.inner_text()

    @property
    def seed(self) -> str:
        return self.fact("Seed")

    @property
    def seen(self) -> list[str]:
        return list(self.page.evaluate("window.seen"))

    def fact(self, term: str) -> str:
        return self.facts.locator(f"div:has(dt:text-is('{term}')) dd").inner_text()

    def state(self, name: str) -> Locator:
        return self.page.locator(f"body[data-state={name}]")

    def upload(self, recording: bytes | Path, name: str = "recording.ogg") -> None:
        file: Any = recording if isinstance(recording, Path) else {"name": name, "mimeType": "audio/ogg", "buffer": recording}
        self.file.set_input_files(file)

    def gets(self, count: int) -> None:
        """The visit's picture number `count` is there, and shown."""
        expect(self.failure).to_be_hidden()  # one from before goes when the new drawing begins
        expect(self.pictures.or_(self.failure.filter(visible=True))).to_have_count(count, timeout=DRAWN_MS)
        assert not self.failure.is_visible(), self.failure.inner_text()
        expect(self.result).to_be_visible()

    def fails(self, title: str) -> str:
        """What is said to do about it."""
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

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    def sideways_px(self) -> int:
        """How much wider the page is than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def kept_to_itself(self) -> None:
        """Nothing was asked of another host, refused by the policy, or said to the console but what was expected."""
        assert self.requests
        assert not [one for one in self.requests if not one.startswith((f"{self.url}/", f"blob:{self.url}/"))]
        assert not [one for one in self.messages if not any(part in one for part in self.expected)]


@contextlib.contextmanager
def visiting(browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any) -> Iterator[Visitor]:
    """A tab of its own, in a browser that remembers nothing; what it did is judged at the end."""
    width, height = size
    with browser.new_context(viewport={"width": width, "height": height}, **options) as context:
        visitor = Visitor(context, url)
        yield visitor
        visitor.kept_to_itself()
