"""The page of a comparison: its texts are no markup, it asks nobody for anything, and its charts show what was measured."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, sync_playwright

from sonograph.compare import page_tables, timeline
from sonograph.compare.charts import MAX_POINTS
from sonograph.compare.labels import shown
from sonograph.compare.measured import Measured, Node
from sonograph.compare.page import page
from sonograph.compare.scores import Errors, Scores
from sonograph.compare.summary import chosen, rows
from sonograph.compare.timeline import cores, lanes, packed
from testing.browser import DESK, PHONE, launch

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e'\"&lt;{%{x}}<b>"
BEGAN_S = 1.7e9


def task(at: int = 0, **changed: Any) -> Measured:
    one = Measured(
        key=f"key {at}",
        role="speech-to-text",
        candidate="tiny.en, faster-whisper",
        model="tiny.en",
        engine="faster-whisper",
        settings={},
        input=f"recording {at}.wav",
        length_s=4.0,
        asked_cpus=1.0,
        asked_bytes=None,
        node="node",
        pid=1,
        cores=(0,),
        started_s=BEGAN_S + at,
        ended_s=BEGAN_S + at + 0.9,
        load_s=0.0,
        wall_s=0.8,
        cpu_s=0.8,
        threads=1,
        peak_bytes=2**29,
        text="a text",
        mean_log_probability=-0.3,
    )
    return replace(one, **changed)


def of(candidate: str, cpu_s: float, errors: int, count: int = 4) -> tuple[list[Measured], dict[tuple[str, str], Errors]]:
    """Return tasks of a candidate that have so many errors in a hundred words."""
    found = [task(at, key=f"{candidate} {at}", candidate=candidate, cpu_s=cpu_s) for at in range(count)]
    return found, {(candidate, one.input): Errors(errors, 100) for one in found}


def drawn(measured: Sequence[Measured], scores: Scores | None = None, title: str = "Comparison") -> str:
    scores = scores or Scores({}, {})
    found, _ = chosen(rows(measured, list(dict.fromkeys(one.candidate for one in measured)), scores), 0.5, None)
    return page(measured, found, title, {"node": Node(4, 2**33)}, scores)


def embedded(html: str) -> str:
    (found,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', html)
    return str(found)


def charts(html: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(embedded(html))
    return found


def ours(html: str) -> str:
    """Return the page without plotly's script, which names addresses that it does not ask."""
    parts = re.split(r"(<script>.*?</script>)", html, flags=re.DOTALL)
    return "".join(part for part in parts if len(part) < 1_000_000)


def front() -> str:
    """Draw four candidates, two of them on the front."""
    cheap, cheap_errors = of("tiny.en, faster-whisper", 0.4, 10)
    good, good_errors = of("base, faster-whisper", 0.8, 5)
    dear, dear_errors = of("tiny.en, openai-whisper", 1.2, 10)
    worse, worse_errors = of("base, openai-whisper", 1.6, 6)
    errors = cheap_errors | good_errors | dear_errors | worse_errors
    return drawn([*cheap, *good, *dear, *worse], Scores(errors, {}))


def test_names_and_texts_from_outside_are_no_markup() -> None:
    hostile = {"candidate": HOSTILE, "model": HOSTILE, "node": HOSTILE, "input": HOSTILE}
    html = ours(drawn([task(0, **hostile), task(1, error=HOSTILE, **hostile)], title=HOSTILE))
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "\u202e" not in html
    assert "&lt;img src=x onerror=alert(2)&gt;" in html
    assert "<" not in embedded(html), "a script ends at </script, whatever its type"
    for chart in charts(html).values():
        texts = [text for trace in chart["data"] for text in [*trace.get("hovertext", []), *trace.get("text", [])]]
        texts += chart["layout"]["yaxis"].get("ticktext", [])
        for text in texts:
            assert set(re.findall(r"<[^>]*>", text)) <= {"<br>", "<b>", "</b>"}, "plotly reads tags in its labels"


@given(st.text())
def test_a_shown_text_is_one_line_that_can_be_written_and_seen(text: str) -> None:
    found = shown(text, 20)
    assert not set(found) & set("<>\"'\n\r\0")
    found.encode()
    assert len(found) <= 20 * len("&quot;")


def test_a_name_that_is_no_unicode_can_be_written() -> None:
    drawn([task(input="caf\udce9.wav")]).encode()


def test_the_page_names_no_address_and_its_policy_allows_its_own_scripts_alone() -> None:
    html = front()
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", ours(html))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("sha256-") == html.count("<script>") == 2
    assert "unsafe-eval" not in policy


def test_the_front_joins_the_candidates_that_none_beats() -> None:
    chart = charts(front())["trade"]
    line, *points = chart["data"]
    assert line["x"] == pytest.approx([0.1, 0.2])
    assert line["y"] == pytest.approx([0.1, 0.05])
    assert line["line"]["shape"] == "hv"
    found = {point["hovertext"][0].split("<br>")[0]: point for point in points}
    assert {name: point["marker"]["symbol"].endswith("-open") for name, point in found.items()} == {
        "tiny.en, faster-whisper": False,
        "base, faster-whisper": False,
        "tiny.en, openai-whisper": True,
        "base, openai-whisper": True,
    }
    assert all(point["text"][0] for point in points), "each of a few has its label"


def test_without_references_the_error_is_the_disagreement_with_the_largest_model() -> None:
    found, errors = of("tiny.en", 0.4, 20)
    html = drawn(found, Scores({}, errors))
    assert charts(html)["trade"]["data"][0]["y"] == pytest.approx([0.2])
    assert charts(html)["error-spread"]["data"][1]["x"] == pytest.approx([0.2] * 4)
    assert "Cost against 1 - agreement" in html


def test_without_any_error_the_page_says_that_there_is_no_such_axis() -> None:
    html = drawn([task(length_s=None, text=None, mean_log_probability=None)])
    assert "There is no error axis: these tasks have no score." in html
    assert "Seconds for a picture" in html
    assert charts(html)["trade"]["layout"]["yaxis"] == {"visible": False}


def test_each_measured_task_is_a_point_of_its_candidates_spread() -> None:
    found, errors = of("tiny.en", 0.4, 10)
    drawing = charts(drawn([*found, task(9, candidate="tiny.en", error="it broke")], Scores(errors, {})))
    box, points = drawing["time-spread"]["data"]
    assert points["x"] == pytest.approx([0.2] * 4)
    assert box["median"] == pytest.approx([0.2])
    assert drawing["error-spread"]["data"][1]["x"] == pytest.approx([0.1] * 4)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=60))
def test_tasks_of_one_lane_never_overlap_and_no_lane_is_spare(times: list[tuple[int, int]]) -> None:
    tasks = [task(at, started_s=float(start), ended_s=float(start + length)) for at, (start, length) in enumerate(times)]
    found = packed(tasks)
    for lane in set(found):
        ordered = sorted((one.started_s, one.ended_s) for one, at in zip(tasks, found, strict=True) if at == lane)
        assert all(one[1] <= next_one[0] for one, next_one in pairwise(ordered))
    at_once = max(sum(one.started_s <= at.started_s < max(one.ended_s, one.started_s + 0.5) for one in tasks) for at in tasks)
    assert max(found) + 1 <= at_once


def test_nodes_have_lanes_of_their_own_next_to_each_other() -> None:
    found = lanes([task(0, node="b"), task(0, node="a"), task(0.5, node="a")])
    assert found.nodes == {"a": range(2), "b": range(2, 3)}


def test_a_bar_is_pale_while_the_model_loads_and_a_failed_task_is_marked() -> None:
    measured = [task(0, load_s=0.3), task(1, error="it broke", cores=(0, 1, 2, 5))]
    pale, full, crosses = charts(drawn(measured))["timeline"]["data"]
    assert (pale["base"], pale["x"]) == ([0], pytest.approx([0.3]))
    assert (full["base"], full["x"]) == (pytest.approx([0.3, 1]), pytest.approx([0.6, 0.9], rel=1e-3))
    assert pale["marker"]["opacity"] < full["marker"]["opacity"]
    assert (crosses["x"], crosses["y"]) == (pytest.approx([1.9]), [0])
    assert "failed: it broke" in crosses["hovertext"][0]
    assert "cores 0-2, 5" in crosses["hovertext"][0]


@pytest.mark.parametrize(("numbers", "text"), [((), "unknown"), ((3,), "3"), ((1, 0, 2), "0-2"), ((0, 2, 3), "0, 2-3")])
def test_cores_are_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert cores(numbers) == text


def test_a_straggler_is_the_first_of_the_slowest_and_has_a_bar_of_its_own_among_ten_thousand() -> None:
    measured = [task(at, started_s=BEGAN_S + 1.0 * at, ended_s=BEGAN_S + at + 1.0) for at in range(10_000)]
    measured[5000] = replace(measured[5000], input="the straggler", ended_s=BEGAN_S + 5100)
    html = drawn(measured)
    chart = charts(html)["timeline"]
    bars = [(width, text) for trace in chart["data"][:-1] for width, text in zip(trace["x"], trace["hovertext"], strict=True)]
    assert sum("the straggler" in text for _, text in bars) == 1
    assert len(bars) <= timeline.MAX_BARS
    assert f"10,000 tasks share {len(bars):,} bars" in html
    counted = sum(int(found[1]) if (found := re.match(r"<b>(\d+) tasks", text)) else 1 for _, text in bars)
    assert counted == 10_000, "none is lost"
    slowest = html.split("Slowest for their candidate")[1].split("</tr>")[1]
    assert "the straggler" in slowest


def test_the_page_of_ten_thousand_tasks_with_long_names_is_bounded_and_says_what_is_left_out() -> None:
    candidates = [f"model {at}, engine" for at in range(10)]
    name = "a very long name of a recording " * 20
    measured = [
        task(
            at,
            candidate=candidates[at * 7 % 10],
            input=f"{at} {name}",
            node=f"node {at % 500}",
            load_s=0.5,
            error="it broke, and it says so at length " * 10 if at % 5 == 0 else None,
        )
        for at in range(10_000)
    ]
    html = drawn(measured)
    assert len(ours(html)) < 4_000_000
    assert "500 lanes, with 4,000 tasks, are not drawn" in html
    assert "shortest tasks are not drawn" in html
    assert f"The first {page_tables.MAX_FAILURES} by name; 1,700 further ones are not listed." in html
    assert html.split('aria-label="Table: failures"')[1].count("<tr") == page_tables.MAX_FAILURES + 1
    points = [len(trace["x"]) for trace in charts(html)["time-spread"]["data"] if trace["type"] == "scatter"]
    assert sum(points) <= MAX_POINTS
    assert f"{8_000 - sum(points):,} of the points are not drawn" in html


def test_asked_for_and_used_stand_side_by_side_and_more_than_asked_for_is_named() -> None:
    measured = [task(at, cpu_s=0.8 * (at + 1), asked_bytes=2**28) for at in range(4)]
    html = drawn(measured)
    used, asked = charts(html)["cpus"]["data"]
    assert used["x"] == pytest.approx([2, 4, 4])
    assert asked["x"] == [1]
    line = html.split('aria-label="Table: asked for and used"')[1].split("</table>")[0]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", line) == ["1", "2", "4", "4", "256 MiB", "512 MiB", "512 MiB", "512 MiB"]
    assert "more CPUs than asked for, more memory than asked for" in line


def test_a_task_that_uses_what_it_asked_for_is_not_named() -> None:
    assert "than asked for" not in drawn([task(asked_bytes=2**30)])


def test_failures_stand_by_name_and_count_in_no_figure() -> None:
    html = drawn([task(0, input="b.wav", error="late"), task(1, input="a.wav", error="early"), task(2)])
    listed = html.split('aria-label="Table: failures"')[1]
    lines = re.findall(r'<th scope="row"[^>]*>([^<]*)</th><td[^>]*>[^<]*</td><td[^>]*>(\w+)</td>', listed)
    assert lines == [("a.wav", "early"), ("b.wav", "late")]
    assert '<a class="bad" href="#failures">2 failed</a>' in html
    assert len(charts(html)["time-spread"]["data"][1]["x"]) == 1


def test_a_page_without_any_task_is_a_page() -> None:
    assert "0</strong> tasks" in page([], [], "Nothing", {})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    hostile = {"candidate": HOSTILE, "node": HOSTILE, "input": HOSTILE}
    many = [task(at, candidate=f"model {at % 9}, engine", node=f"node {at % 40}", cores=(at % 4,)) for at in range(10_000)]
    texts = {
        "few": front(),
        "hostile": drawn([task(0, **hostile), task(1, error=HOSTILE, **hostile)], title=HOSTILE),
        "many": drawn(many),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield launch(playwright)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("few", PHONE, "light"), ("few", DESK, "dark"), ("hostile", PHONE, "dark"), ("many", DESK, "light")],
)
def test_the_page_draws_without_an_error_or_a_request(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int], scheme: str
) -> None:
    said, asked = list[str](), list[str]()
    with browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=size == PHONE
    ) as context:
        context.on("console", lambda message: said.append(message.text))
        context.on("weberror", lambda error: said.append(str(error.error)))
        context.on("request", lambda request: asked.append(request.url))
        tab = context.new_page()
        tab.goto(pages[name].as_uri())
        tab.wait_for_selector("body[data-drawn]")
        assert tab.locator("#chart-timeline .bars path").count() >= 2
        assert tab.locator("#chart-trade .scatterlayer .point").count() >= 1
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        text = tab.locator("#chart-trade text").first
        ink = tab.evaluate("getComputedStyle(document.body).color")
        assert text.evaluate("one => getComputedStyle(one).fill") == ink
        tab.keyboard.press("Tab")
        tab.get_by_role("button", name="Zoom in").press("Enter")
        begin, end = tab.evaluate("document.getElementById('chart-timeline').layout.xaxis.range")
        first, last = tab.evaluate("document.getElementById('chart-timeline').whole")
        assert end - begin == pytest.approx((last - first) / 2)
        boxes = tab.locator("[data-candidate]")
        for box in boxes.all():
            box.set_checked(False)
        assert tab.locator("#chart-timeline .bars path").count() == 0
        assert Axe().run(tab).response["violations"] == []
    assert said == []
    assert asked == [pages[name].as_uri()]
