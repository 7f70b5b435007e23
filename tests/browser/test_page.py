"""The page in a real Chromium against the real service: by hand, by keyboard and by voice."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Playwright, Route, expect, sync_playwright

from graphs.http.routes.page import SAMPLES
from testing import media, speech
from testing.browser import DESK, DRAWN_MS, PHONE, Visitor, launch, speaking, visiting
from testing.service import Service

pytestmark = [pytest.mark.browser, pytest.mark.serve]
APPLE = SAMPLES / "red-apple.wav"
CAT = speech.HERE / "cat-slt.ogg"
LARGE = {"steps": "150", "width": "512", "height": "512"}
"""Large enough to take minutes."""
SPOKEN_MS = 2600
"""The sample's duration and some silence."""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Browser:
    return launch(playwright, *speaking(APPLE))


@pytest.fixture
def visitor(browser: Browser, service: Service) -> Iterator[Visitor]:
    with visiting(browser, service.url) as visitor:
        yield visitor


def test_an_uploaded_recording_is_transcribed_and_drawn_step_by_step(visitor: Visitor, service: Service) -> None:
    visitor.upload(CAT)
    visitor.wait_for_images(1)
    assert "cat sleeping" in visitor.prompt.lower()
    seen = visitor.seen
    assert seen.index("transcript") < seen.index("picture") < seen.index(seen[-1])
    steps = [match[1] for match in map(re.compile("Drawing, step (\\d+) of 12").match, seen) if match]
    assert len(steps) > 3
    assert steps == sorted(steps, key=int)
    same = service.draw(CAT.read_bytes(), seed=visitor.seed)
    assert visitor.downloaded() == base64.b64decode(same["image"]["base64"])
    assert visitor.picture.get_attribute("alt") == same["prompt"] == visitor.prompt
    assert visitor.picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [512, 512]
    assert visitor.fact("Size") == "64 × 64 pixels"
    assert [stage.split(" in ")[0] for stage in visitor.legend.locator("li").all_inner_texts()] == [
        "decoded",
        "heard",
        "drawn",
        "encoded",
    ]


def test_a_dropped_file_is_drawn(visitor: Visitor) -> None:
    fill = "encoded => { const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(encoded)], 'cat.ogg')); return data; }"
    dropped = visitor.page.evaluate_handle(fill, list(CAT.read_bytes()))
    for event in ("dragenter", "dragover"):
        visitor.page.dispatch_event("body", event, {"dataTransfer": dropped})
    expect(visitor.page.locator("body[data-drop]")).to_be_attached()
    visitor.page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(visitor.page.locator("body[data-drop]")).not_to_be_attached()
    visitor.wait_for_images(1)
    assert "cat sleeping" in visitor.prompt.lower()


def test_each_sample_is_transcribed_as_its_button_says(visitor: Visitor) -> None:
    buttons = visitor.page.locator("[data-sample]")
    for pictures in range(1, buttons.count() + 1):
        label = buttons.nth(pictures - 1).inner_text()
        buttons.nth(pictures - 1).click()
        visitor.wait_for_images(pictures)
        assert re.findall(r"\w+", visitor.prompt.lower()) == re.findall(r"\w+", label.lower())


@pytest.mark.parametrize("how", ["held", "tapped", "clicked by a screen reader"])
def test_a_spoken_sentence_is_drawn(visitor: Visitor, how: str) -> None:
    visitor.record.hover()
    clicks = how.startswith("clicked")
    if clicks:
        visitor.record.dispatch_event("click")
    else:
        visitor.page.mouse.down()
    if how == "tapped":
        visitor.page.mouse.up()
    expect(visitor.record).to_have_accessible_name("Finish recording")
    visitor.page.wait_for_timeout(SPOKEN_MS)
    assert visitor.page.locator("#wave rect").evaluate_all("bars => Math.max(...bars.map(bar => bar.height.baseVal.value))") > 30
    if clicks:
        visitor.record.dispatch_event("click")
    elif how == "tapped":
        visitor.page.mouse.down()
        visitor.page.mouse.up()
    else:
        visitor.page.mouse.up()
    visitor.wait_for_images(1)
    assert "apple" in visitor.prompt.lower()


def test_every_action_works_by_keyboard(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    keyboard.press("Tab")
    keyboard.press("Enter")  # the skip link leads to the record button
    expect(visitor.record).to_be_focused()
    keyboard.down("Space")
    expect(visitor.state("recording")).to_be_visible()
    visitor.page.wait_for_timeout(SPOKEN_MS)
    keyboard.up("Space")
    visitor.wait_for_images(1)
    assert "apple" in visitor.prompt.lower()

    def tab_to(name: str) -> None:
        for _ in range(20):
            keyboard.press("Tab")
            if visitor.page.locator(":focus").get_attribute("id") == name:
                return
        raise AssertionError(f"no way to {name} by the tabulator key")

    tab_to("edit")
    keyboard.press("Enter")
    expect(visitor.text).to_be_focused()
    keyboard.press("Control+A")
    keyboard.type("a green umbrella")
    tab_to("draw-text")
    keyboard.press("Enter")
    visitor.wait_for_images(2)
    assert visitor.prompt == "a green umbrella"
    expect(visitor.record).to_be_focused()

    keyboard.press("Enter")  # begins a recording
    expect(visitor.state("recording")).to_be_visible()
    keyboard.press("Escape")
    expect(visitor.status).to_have_text("Discarded")
    assert visitor.prompt == "a green umbrella"

    keyboard.press("Shift+Tab")
    keyboard.press("Shift+Tab")
    expect(visitor.open_settings).to_be_focused()
    keyboard.press("Enter")
    expect(visitor.page.get_by_role("dialog", name="Settings")).to_be_visible()
    keyboard.press("Escape")
    expect(visitor.open_settings).to_be_focused()


@pytest.mark.parametrize("how", ["button", "Escape", "closed tab"])
def test_a_cancellation_frees_the_service(browser: Browser, service: Service, how: str) -> None:
    answers: list[str] = []
    with visiting(browser, service.url) as visitor:
        visitor.page.on("response", lambda answer: answers.append(answer.headers.get("x-request-id", "")))
        visitor.settings(**LARGE)
        visitor.upload(CAT)
        expect(visitor.status).to_have_text(re.compile(r"Drawing, step \d+ of 150, \d+ s left"), timeout=DRAWN_MS)
        expect(visitor.record).to_have_accessible_name("Cancel")
        if how == "button":
            visitor.record.click()
        elif how == "Escape":
            visitor.page.keyboard.press("Escape")
        if how != "closed tab":
            expect(visitor.status).to_have_text("Cancelled")
            expect(visitor.state("idle")).to_be_visible()
            assert visitor.pictures.count() == 0
    line = re.compile(rf'"request_id": "{answers[-1]}".*"cancelled": true')
    service.wait_until(lambda: bool(line.search(service.logs("ingress"))), "the request's line says cancelled")
    service.wait_until(lambda: service.client.get("/healthz").json()["requests"] == 0, "a service without requests")


def test_the_text_can_be_edited_and_drawn_again_and_drawn_with_another_seed(visitor: Visitor, service: Service) -> None:
    visitor.upload(CAT)
    visitor.wait_for_images(1)
    first = visitor.downloaded()
    visitor.edit.click()
    expect(visitor.text).to_have_value(visitor.prompt)
    visitor.text.fill("A big yellow sunflower.")
    visitor.page.get_by_role("button", name="Draw", exact=True).click()
    visitor.wait_for_images(2)
    assert visitor.prompt == "A big yellow sunflower."
    assert any(one.startswith("Drawing, step") for one in visitor.seen[visitor.seen.index("empty", 5) :])
    seed, second = visitor.seed, visitor.downloaded()
    asked = {"prompt": visitor.prompt, "seed": int(seed)}
    answer = service.client.post("/v1/images/generations", json=asked).json()
    assert second == base64.b64decode(answer["data"][0]["b64_json"])

    visitor.again.click()
    visitor.wait_for_images(3)
    assert visitor.prompt == "A big yellow sunflower."
    assert visitor.seed != seed
    assert visitor.downloaded() not in (first, second)

    visitor.pictures.last.click()  # the oldest image: the newest comes first
    assert "cat" in visitor.prompt.lower()
    assert visitor.downloaded() == first
    assert [one.get_attribute("aria-current") for one in visitor.pictures.all()] == [None, None, "true"]


def test_settings_reach_the_service_and_the_key_stays_in_the_tab(visitor: Visitor) -> None:
    sent: list[Any] = []
    visitor.page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    visitor.settings(steps="3", guidance_scale="2", width="96", height="80", negative_prompt="blue", key="secret-key")
    assert visitor.chosen.inner_text().split()[0] == "6"
    visitor.upload(CAT)
    visitor.wait_for_images(1)
    assert visitor.fact("Size") == "96 × 80 pixels"
    assert "Drawing, step 2 of 3" in " ".join(visitor.seen)
    visitor.again.click()
    visitor.wait_for_images(2)
    assert visitor.fact("Size") == "96 × 80 pixels"
    asked = json.loads(sent[1].post_data)
    assert {
        "size": "96x80",
        "steps": 3,
        "guidance_scale": 2,
        "negative_prompt": "blue",
        "prompt": visitor.prompt,
    }.items() <= asked.items()
    assert [request.headers["authorization"] for request in sent] == ["Bearer secret-key", "Bearer secret-key"]
    assert not any("secret" in request.url for request in sent)
    visitor.page.reload()
    assert visitor.page.locator("#key").input_value() == "secret-key"
    assert visitor.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_the_command_for_a_terminal_draws_the_same_picture(browser: Browser, service: Service, tmp_path: Path) -> None:
    for tool in ("curl", "jq"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not on this machine")
    name = 'it\'s a "cat"; $(touch x), `y`.ogg'
    (tmp_path / name).write_bytes(CAT.read_bytes())
    with visiting(browser, service.url, permissions=["microphone", "clipboard-read", "clipboard-write"]) as visitor:
        visitor.settings(steps="4", negative_prompt="it's; $HOME")
        visitor.upload(tmp_path / name)
        for pictures in (1, 2):
            visitor.wait_for_images(pictures)
            visitor.copy.click()
            expect(visitor.copy_name).to_have_text("Copied")
            command = visitor.page.evaluate("navigator.clipboard.readText()")
            assert command == visitor.command.text_content()
            subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True, capture_output=True)
            assert (tmp_path / "picture.png").read_bytes() == visitor.downloaded()
            assert {file.name for file in tmp_path.iterdir()} == {name, "picture.png"}
            if pictures == 1:
                visitor.edit.click()
                visitor.text.fill("""the cat's "hat" `is` $HOME; 'blue' \\ & co""")
                visitor.page.get_by_role("button", name="Draw", exact=True).click()


def test_the_command_does_not_contain_the_key(visitor: Visitor) -> None:
    visitor.settings(key="secret-key", steps="2")
    visitor.upload(CAT)
    visitor.wait_for_images(1)
    visitor.copy.click()
    command = visitor.command.text_content() or ""
    assert "secret" not in command
    assert '-H "Authorization: Bearer $SONOGRAPH_KEY"' in command


def test_shell_quoting_preserves_any_text(visitor: Visitor) -> None:
    words = [
        "",
        "plain",
        "a b",
        "it's",
        "'",
        "''",
        "\\",
        '"',
        "$HOME",
        "`id`",
        "a\nb",
        "-x",
        "~",
        "é語🦊",
        "*",
        "a;b|c&d>e",
        "!x",
    ]
    words_quoted = visitor.page.evaluate("async (words) => words.map((await import('/page/curl.js')).shellQuote)", words)
    for word, shown in zip(words, words_quoted, strict=True):
        assert subprocess.run(["sh", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout.decode() == word


def test_events_are_parsed_at_any_chunk_size(visitor: Visitor) -> None:
    stream = ': hello\n\nevent: a\nid: 1\ndata: {"a":"é語🦊"}\n\ndata: {"b":\r\ndata: 2}\r\n\r\ndata:{"c":3}\r\rdata: {"cut":'
    read = """async ([stream, size]) => {
        const { parseEvents } = await import("/page/sse.js");
        const bytes = new TextEncoder().encode(stream);
        const body = new ReadableStream({ start(controller) {
            for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
            controller.close();
        } });
        const found = [];
        for await (const event of parseEvents(body)) found.push(event);
        return found;
    }"""
    for size in (1, 2, 3, 5, 7, 1000):
        assert visitor.page.evaluate(read, [stream, size]) == [{"a": "é語🦊"}, {"b": 2}, {"c": 3}]


# Errors


def test_an_error_shows_the_services_sentence_and_leads_to_the_settings(visitor: Visitor) -> None:
    visitor.expected = ["422"]
    visitor.upload(b"no recording")
    detail = visitor.wait_for_failure("Recording cannot be decoded")
    assert len(detail) > 20
    assert detail.endswith(".")
    assert not visitor.failure_settings.is_visible()
    visitor.open_settings.click()
    visitor.page.locator("#language").select_option("fr")
    visitor.page.get_by_role("button", name="Done").click()
    visitor.upload(CAT)
    assert "tiny.en" in visitor.wait_for_failure("Invalid parameter")
    visitor.failure_settings.click()
    visitor.page.get_by_role("button", name="Reset").click()
    visitor.page.get_by_role("button", name="Done").click()
    visitor.upload(CAT)
    visitor.wait_for_images(1)


def test_silence_is_reported_as_silence(visitor: Visitor) -> None:
    visitor.expected = ["422"]
    visitor.upload(media.encode(media.sweep(2) * 0, "ogg", "libopus"))
    visitor.wait_for_failure("No speech in the recording")


def test_a_lost_network_is_reported_and_the_request_can_be_repeated(visitor: Visitor) -> None:
    visitor.expected = ["ERR_INTERNET_DISCONNECTED"]
    visitor.context.set_offline(True)
    visitor.upload(CAT)
    assert "Connect it" in visitor.wait_for_failure("No network")
    visitor.context.set_offline(False)
    visitor.try_again.click()
    visitor.wait_for_images(1)
    assert "cat" in visitor.prompt.lower()


def test_a_stream_without_its_last_event_is_reported_as_cut(visitor: Visitor) -> None:
    started = 'event: accepted\nid: 0\ndata: {"type":"accepted","request_id":"1","sequence":0,"deadline_ms":30000}\n\n'
    visitor.page.route("**/graph", lambda route: route.fulfill(body=started, content_type="text/event-stream"))
    visitor.upload(CAT)
    assert "Try again" in visitor.wait_for_failure("The connection was cut")


def test_a_file_above_the_bound_is_not_sent(visitor: Visitor, tmp_path: Path) -> None:
    with (tmp_path / "hours.wav").open("wb") as file:
        file.truncate((25 << 20) + 1)
    visitor.upload(tmp_path / "hours.wav")
    assert "25 MB" in visitor.wait_for_failure("The file is too large")
    assert not [one for one in visitor.requests if one.endswith("/graph")]
    expect(visitor.try_again).to_be_hidden()


def test_a_file_chosen_before_the_bounds_are_known_waits_for_them(visitor: Visitor, tmp_path: Path) -> None:
    held: list[Route] = []
    visitor.page.route("**/limits.json", lambda route: held.append(route))
    visitor.page.reload()
    expect(visitor.state("idle")).to_be_visible()
    with (tmp_path / "hours.wav").open("wb") as file:
        file.truncate((25 << 20) + 1)
    visitor.upload(tmp_path / "hours.wav")
    (limits,) = held
    limits.continue_()
    assert "25 MB" in visitor.wait_for_failure("The file is too large")
    assert not [one for one in visitor.requests if one.endswith("/graph")]


def test_a_refused_microphone_is_reported(playwright: Playwright, service: Service) -> None:
    browser = launch(playwright, "--use-fake-device-for-media-stream")
    with visiting(browser, service.url, permissions=[]) as visitor:
        visitor.record.click()
        assert "Allow it" in visitor.wait_for_failure("The microphone was refused")
    browser.close()


def test_a_page_without_https_says_why_it_has_no_microphone(playwright: Playwright, service: Service) -> None:
    browser = launch(playwright, "--host-resolver-rules=MAP sonograph.test 127.0.0.1", *speaking(APPLE))
    with visiting(browser, service.url.replace("127.0.0.1", "sonograph.test")) as visitor:
        visitor.expected = ["Cross-Origin-Opener-Policy"]
        visitor.record.click()
        assert "https" in visitor.wait_for_failure("No microphone here")
        visitor.upload(CAT)
        visitor.wait_for_images(1)
    browser.close()


# Looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_in_each_state_fits_its_window_and_passes_axe(
    browser: Browser, service: Service, size: tuple[int, int], scheme: str
) -> None:
    kind = f"{'phone' if size == PHONE else 'desk'}-{scheme}"

    def check(visitor: Visitor, state: str) -> None:
        visitor.page.wait_for_timeout(500)  # until animations end
        visitor.shot(f"{state}-{kind}")
        assert visitor.sideways_px() == 0
        if state != "settings":
            box = visitor.record.bounding_box()
            assert box
            assert box["y"] + box["height"] <= size[1], "the record button is below the window's edge"
        faults = Axe().run(visitor.page).response["violations"]
        assert [
            (fault["id"], [node["html"] for node in fault["nodes"]])
            for fault in faults
            if fault["impact"] in ("serious", "critical")
        ] == []

    with visiting(browser, service.url, size, color_scheme=scheme) as visitor:
        visitor.expected = ["422"]
        check(visitor, "idle")
        visitor.record.click()
        visitor.page.wait_for_timeout(1200)
        check(visitor, "recording")
        visitor.side.click()
        visitor.settings(**LARGE)
        visitor.upload(APPLE)
        expect(visitor.status).to_have_text(re.compile(r"Drawing, step \d+ of 150, \d+ s left"), timeout=DRAWN_MS)
        check(visitor, "drawing")
        visitor.record.click()
        expect(visitor.status).to_have_text("Cancelled")
        visitor.open_settings.click()
        check(visitor, "settings")
        visitor.page.get_by_role("button", name="Reset").click()
        visitor.page.keyboard.press("Escape")
        visitor.upload(APPLE)
        visitor.wait_for_images(1)
        visitor.edit.click()
        visitor.text.fill("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft and a red apple")
        check(visitor, "editing")
        visitor.page.get_by_role("button", name="Draw", exact=True).click()
        visitor.wait_for_images(2)
        check(visitor, "long")
        visitor.pictures.last.click()
        visitor.copy.click()
        check(visitor, "done")
        visitor.upload(b"no recording")
        visitor.wait_for_failure("Recording cannot be decoded")
        check(visitor, "error")


@pytest.mark.parametrize("size", [(320, 480), (640, 360), (844, 390), (768, 1024), (1024, 640), (1920, 1080)])
def test_the_record_button_is_in_every_window(browser: Browser, service: Service, size: tuple[int, int]) -> None:
    with visiting(browser, service.url, size) as visitor:
        expect(visitor.record).to_be_in_viewport(ratio=1)
        assert visitor.sideways_px() == 0


def test_nothing_moves_with_reduced_motion(browser: Browser, service: Service) -> None:
    with visiting(browser, service.url, reduced_motion="reduce") as visitor:
        visitor.settings(**LARGE)
        visitor.upload(CAT)
        expect(visitor.state("working")).to_be_visible()
        assert visitor.page.evaluate("document.getAnimations().length") == 0
        visitor.page.wait_for_timeout(700)
        visitor.record.click()
        expect(visitor.status).to_have_text("Cancelled")
