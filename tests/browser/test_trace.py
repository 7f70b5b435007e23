"""The request's trace under the picture in a real Chromium: for operators, and nothing for others."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from graphs.http.settings import HttpSettings
from graphs.tracing.settings import TracingSettings
from graphs.tracing.traces import Traces
from sonograph.trace import in_order
from testing import speech
from testing.browser import DESK, PHONE, Tab, launch, open_tab
from testing.fakes import FakeService, image
from testing.service import Service
from testing.serving import serving

pytestmark = pytest.mark.browser
CAT = speech.HERE / "cat-slt.ogg"
ANNA, BEN = "anna-has-a-long-key", "ben-has-another-key"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield launch(playwright)


@pytest.fixture
def keeping(tmp_path: Path) -> FakeService:
    """A service that keeps traces, with keys of an operator, Anna, and of Ben."""
    keys, file = tmp_path / "keys", io.BytesIO()
    keys.write_text(f"anna {ANNA} operator\nben {BEN}\n")
    PIL.Image.new("RGB", (64, 64), "red").save(file, "png")
    service = FakeService(HttpSettings(api_keys_file=keys), traces=Traces(TracingSettings()))
    service.diffusion.result = image(file.getvalue())
    return service


@pytest.fixture
def tab(browser: Browser, keeping: FakeService) -> Iterator[Tab]:
    with serving(keeping.app()) as url, open_tab(browser, url) as tab:
        yield tab


def asked(tab: Tab) -> list[str]:
    """The ids of the traces that the page has asked for."""
    return [path for url in tab.requests for _, found, path in [url.partition("/graph/traces/")] if found]


def cells(row: Locator) -> list[str]:
    return [" ".join(text.split()) for text in row.locator("th, td").all_text_contents()]


@pytest.mark.serve
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_waterfall_has_the_rows_of_the_terminals(
    browser: Browser, service: Service, size: tuple[int, int], scheme: str
) -> None:
    with open_tab(browser, service.url, size, color_scheme=scheme) as tab:
        tab.upload(CAT)
        tab.wait_for_images(1)
        expect(tab.trace_summary).to_have_text(re.compile(r"Where the time went: [\d.]+ m?s"))
        expect(tab.trace_rows).to_be_hidden()
        tab.trace_summary.click()
        trace = service.client.get(f"/graph/traces/{asked(tab)[0]}").json()
        spans = [span for _, span in in_order(trace["spans"])]
        rows = tab.trace_rows.locator("tr").all()
        assert len(rows) == len(spans) > 10
        for row, span in zip(rows, spans, strict=True):
            name, time, took = cells(row)
            assert name.startswith(span["name"])
            assert time == f"from {span['start_ms']:.1f} ms"
            assert float(took) == pytest.approx(span["took_ms"], abs=0.06)
            bar = [float(row.locator("rect").get_attribute(side) or "nan") for side in ("x", "width")]
            assert bar == pytest.approx([100 * span[end] / trace["took_ms"] for end in ("start_ms", "took_ms")], abs=0.6)
        (drawing,) = (row for row in rows if "12 × denoising step" in cells(row)[0])
        assert str(drawing.locator("path").get_attribute("d")).count("M") == 12
        tab.trace.scroll_into_view_if_needed()
        tab.screenshot(f"trace-{'phone' if size == PHONE else 'desk'}-{scheme}")
        assert tab.overflow_px() == 0
        assert Axe().run(tab.page).response["violations"] == []


def test_each_picture_has_its_own_trace(tab: Tab) -> None:
    tab.settings(key=ANNA)
    tab.upload(b"sound")
    tab.wait_for_images(1)
    expect(tab.trace_rows.locator("tr").first).to_contain_text("POST /graph")
    tab.again.click()
    tab.wait_for_images(2)
    expect(tab.trace_rows.locator("tr").first).to_contain_text("POST /v1/images/generations")
    tab.pictures.last.click()
    expect(tab.trace_rows.locator("tr").first).to_contain_text("POST /graph")
    first, second = asked(tab)
    expect(tab.trace_note).to_have_text(f"Trace {first}.")
    assert first != second


def test_who_is_no_operator_sees_none_and_asks_for_none(tab: Tab) -> None:
    tab.settings(key=BEN)
    tab.upload(b"sound")
    tab.wait_for_images(1)
    expect(tab.trace).to_be_hidden()
    assert asked(tab) == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_trace_is_not_shown_and_the_page_logs_nothing(tab: Tab, status: int) -> None:
    tab.expected = [f"Failed to load resource: the server responded with a status of {status}"]  # Chromium's own
    tab.page.route("**/graph/traces/*", lambda route: route.fulfill(status=status, json={"detail": "no"}))
    tab.settings(key=ANNA)
    with tab.page.expect_response("**/graph/traces/*"):
        tab.upload(b"sound")
    tab.wait_for_images(1)
    expect(tab.trace).to_be_hidden()
    assert len(tab.messages) == 1


def test_a_traces_texts_are_no_markup_and_its_tree_may_be_broken(tab: Tab) -> None:
    def span(id: str, parent: str, **more: Any) -> dict[str, Any]:
        times = {"start_ms": -1, "took_ms": 1e9}
        return {"id": id, "parent_id": parent, "name": HOSTILE, "error": None, "attributes": {}, "events": [], **times, **more}

    event = {"name": HOSTILE, "at_ms": -5, "attributes": {}}
    spans = [
        span("a", "gone", error=HOSTILE, attributes={"gen_ai.response.model": HOSTILE}, events=[event]),
        span("b", "b"),
        span("c", "d"),
        span("d", "c"),
    ]
    trace = {"trace_id": HOSTILE, "took_ms": 0, "dropped": 3, "spans": spans}
    tab.page.route("**/graph/traces/*", lambda route: route.fulfill(body=json.dumps(trace), content_type="application/json"))
    tab.settings(key=ANNA)
    tab.upload(b"sound")
    tab.wait_for_images(1)
    tab.trace_summary.click()
    rows = tab.trace_rows.locator("tr").all()
    assert [cells(row)[0] for row in rows] == [f"{HOSTILE}{HOSTILE}, 1 × {HOSTILE}, {HOSTILE}", HOSTILE]
    assert tab.trace.locator("img").count() == 0
    expect(tab.trace_note).to_have_text(f"Trace {HOSTILE}. 3 further parts were not kept.")
    assert tab.overflow_px() == 0
