"""The page's generations in a real Chromium, over stages that answer at once: the transcript as it grows, and the memory of previews."""

import io
from collections.abc import Iterator

import PIL.Image
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from deployments.errors import DeploymentError
from deployments.roles.speech_to_text import Segment
from deployments.roles.text_to_image import Preview, Step
from testing.browser import Tab, launch, open_tab
from testing.fakes import FakeService, image
from testing.serving import serving

pytestmark = pytest.mark.browser
OF_AN_IMAGE = 3
"""Object URLs of an image in the gallery: of the image, of the larger one that is shown, and of the recording."""

HOLD = """() => {
  const create = window.createImageBitmap;
  window.createImageBitmap = async (blob) => {
    await new Promise((go) => (window.go = go));
    return create(blob);
  };
}"""
"""Script after which an image is made larger only once `window.go` is called."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield launch(playwright)


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "red").save(file, format)
    return file.getvalue()


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.diffusion.progress = tuple(Step(step, 3, 0.0, Preview(encoded("jpeg"), 64, 64)) for step in (1, 2, 3))
    service.diffusion.result = image(encoded("png"))
    return service


@pytest.fixture
def tab(browser: Browser, service: FakeService) -> Iterator[Tab]:
    with serving(service.app()) as url, open_tab(browser, url) as tab:
        yield tab


@pytest.fixture(params=["the first", "after an image"])
def before(request: pytest.FixtureRequest, tab: Tab) -> int:
    """The object URLs before the generation under test."""
    if request.param == "the first":
        assert tab.blobs == 0
        return 0
    tab.upload(b"sound")
    tab.wait_for_images(1)
    assert tab.blobs == OF_AN_IMAGE, "its previews are gone"
    return OF_AN_IMAGE


def test_a_cancelled_generation_keeps_no_preview(tab: Tab, service: FakeService, before: int) -> None:
    service.diffusion.endless = True
    tab.upload(b"sound")
    expect(tab.status).to_have_text("Drawing, step 3 of 3")
    assert tab.blobs == before + 1, "the preview that is shown"
    tab.page.keyboard.press("Escape")
    expect(tab.status).to_have_text("Cancelled")
    assert tab.blobs == before


def test_a_generation_that_is_cancelled_while_its_image_is_made_larger_keeps_nothing(tab: Tab, before: int) -> None:
    tab.page.evaluate(HOLD)
    tab.upload(b"sound")
    tab.page.wait_for_function("() => Boolean(window.go)")
    tab.page.keyboard.press("Escape")
    tab.page.evaluate("() => window.go()")
    expect(tab.status).to_have_text("Cancelled")
    assert tab.blobs == before


def test_a_failed_generation_keeps_no_preview(tab: Tab, service: FakeService, before: int) -> None:
    service.diffusion.result = DeploymentError("as if")
    tab.upload(b"sound")
    tab.wait_for_failure("Internal error")
    assert tab.blobs == before


def test_an_image_that_cannot_be_shown_is_not_kept(tab: Tab, service: FakeService, before: int) -> None:
    tab.expected = ["could not be decoded"]
    service.diffusion.result = image(b"no image")
    tab.upload(b"sound")
    tab.wait_for_failure("This page has a defect")
    assert tab.blobs == before


@pytest.mark.parametrize(
    ("texts", "whole"),
    [((" A red", " apple."), "A red apple."), (("こんにちは。", "元気ですか。"), "こんにちは。元気ですか。")],
)
def test_the_words_are_shown_with_the_spaces_of_their_language(
    tab: Tab, service: FakeService, texts: tuple[str, ...], whole: str
) -> None:
    service.whisper.progress = tuple(Segment(0.0, 1.0, text, -0.25, 0.125) for text in texts)
    service.whisper.endless = True
    tab.upload(b"sound")
    expect(tab.transcript).to_have_text(whole, use_inner_text=True)
    tab.page.keyboard.press("Escape")
    expect(tab.status).to_have_text("Cancelled")
