"""The page in a real Chromium with the real service: by mouse, keyboard and microphone."""

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
from testing.browser import DESK, DRAWN_MS, PHONE, Tab, fake_microphone, launch, open_tab
from testing.service import Service

pytestmark = [pytest.mark.browser, pytest.mark.serve]
APPLE = SAMPLES / "red-apple.wav"
CAT = speech.HERE / "cat-slt.ogg"
LARGE = {"steps": "150", "width": "512", "height": "512"}
"""Request that takes minutes."""
SPOKEN_MS = 2600
"""Duration of the sample and some silence."""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Browser:
    return launch(playwright, *fake_microphone(APPLE))


@pytest.fixture
def tab(browser: Browser, service: Service) -> Iterator[Tab]:
    with open_tab(browser, service.url) as tab:
        yield tab


def test_an_uploaded_recording_is_transcribed_and_drawn_step_by_step(tab: Tab, service: Service) -> None:
    tab.upload(CAT)
    tab.wait_for_images(1)
    assert "cat sleeping" in tab.prompt.lower()
    seen = tab.seen
    assert seen.index("transcript") < seen.index("picture") < seen.index(seen[-1])
    steps = [match[1] for match in map(re.compile("Drawing, step (\\d+) of 12").match, seen) if match]
    assert len(steps) > 3
    assert steps == sorted(steps, key=int)
    same = service.draw(CAT.read_bytes(), seed=tab.seed)
    assert tab.downloaded() == base64.b64decode(same["image"]["base64"])
    assert tab.picture.get_attribute("alt") == same["prompt"] == tab.prompt
    assert tab.picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [512, 512]
    assert tab.fact("Size") == "64 × 64 pixels"
    assert [stage.split(" in ")[0] for stage in tab.legend.locator("li").all_inner_texts()] == [
        "decoded",
        "heard",
        "drawn",
        "encoded",
    ]


def test_a_dropped_file_is_drawn(tab: Tab) -> None:
    fill = "encoded => { const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(encoded)], 'cat.ogg')); return data; }"
    dropped = tab.page.evaluate_handle(fill, list(CAT.read_bytes()))
    for event in ("dragenter", "dragover"):
        tab.page.dispatch_event("body", event, {"dataTransfer": dropped})
    expect(tab.page.locator("body[data-drop]")).to_be_attached()
    tab.page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(tab.page.locator("body[data-drop]")).not_to_be_attached()
    tab.wait_for_images(1)
    assert "cat sleeping" in tab.prompt.lower()


def test_each_sample_is_transcribed_as_its_button_says(tab: Tab) -> None:
    buttons = tab.page.locator("[data-sample]")
    for pictures in range(1, buttons.count() + 1):
        label = buttons.nth(pictures - 1).inner_text()
        buttons.nth(pictures - 1).click()
        tab.wait_for_images(pictures)
        assert re.findall(r"\w+", tab.prompt.lower()) == re.findall(r"\w+", label.lower())


@pytest.mark.parametrize("how", ["held", "tapped", "clicked by a screen reader"])
def test_a_spoken_sentence_is_drawn(tab: Tab, how: str) -> None:
    tab.record.hover()
    clicks = how.startswith("clicked")
    if clicks:
        tab.record.dispatch_event("click")
    else:
        tab.page.mouse.down()
    if how == "tapped":
        tab.page.mouse.up()
    expect(tab.record).to_have_accessible_name("Finish recording")
    tab.page.wait_for_timeout(SPOKEN_MS)
    assert tab.page.locator("#wave rect").evaluate_all("bars => Math.max(...bars.map(bar => bar.height.baseVal.value))") > 30
    if clicks:
        tab.record.dispatch_event("click")
    elif how == "tapped":
        tab.page.mouse.down()
        tab.page.mouse.up()
    else:
        tab.page.mouse.up()
    tab.wait_for_images(1)
    assert "apple" in tab.prompt.lower()


def test_every_action_works_by_keyboard(tab: Tab) -> None:
    keyboard = tab.page.keyboard
    keyboard.press("Tab")
    keyboard.press("Enter")  # the skip link leads to the record button
    expect(tab.record).to_be_focused()
    keyboard.down("Space")
    expect(tab.state("recording")).to_be_visible()
    tab.page.wait_for_timeout(SPOKEN_MS)
    keyboard.up("Space")
    tab.wait_for_images(1)
    assert "apple" in tab.prompt.lower()

    def tab_to(name: str) -> None:
        for _ in range(20):
            keyboard.press("Tab")
            if tab.page.locator(":focus").get_attribute("id") == name:
                return
        raise AssertionError(f"the Tab key does not reach {name}")

    tab_to("edit")
    keyboard.press("Enter")
    expect(tab.text).to_be_focused()
    keyboard.press("Control+A")
    keyboard.type("a green umbrella")
    tab_to("draw-text")
    keyboard.press("Enter")
    tab.wait_for_images(2)
    assert tab.prompt == "a green umbrella"
    expect(tab.record).to_be_focused()

    keyboard.press("Enter")  # starts a recording
    expect(tab.state("recording")).to_be_visible()
    keyboard.press("Escape")
    expect(tab.status).to_have_text("Discarded")
    assert tab.prompt == "a green umbrella"

    keyboard.press("Shift+Tab")
    keyboard.press("Shift+Tab")
    expect(tab.open_settings).to_be_focused()
    keyboard.press("Enter")
    expect(tab.page.get_by_role("dialog", name="Settings")).to_be_visible()
    keyboard.press("Escape")
    expect(tab.open_settings).to_be_focused()


@pytest.mark.parametrize("how", ["button", "Escape", "closed tab"])
def test_a_cancellation_frees_the_service(browser: Browser, service: Service, how: str) -> None:
    answers: list[str] = []
    with open_tab(browser, service.url) as tab:
        tab.page.on("response", lambda answer: answers.append(answer.headers.get("x-request-id", "")))
        tab.settings(**LARGE)
        tab.upload(CAT)
        expect(tab.status).to_have_text(re.compile(r"Drawing, step \d+ of 150, \d+ s left"), timeout=DRAWN_MS)
        expect(tab.record).to_have_accessible_name("Cancel")
        if how == "button":
            tab.record.click()
        elif how == "Escape":
            tab.page.keyboard.press("Escape")
        if how != "closed tab":
            expect(tab.status).to_have_text("Cancelled")
            expect(tab.state("idle")).to_be_visible()
            assert tab.pictures.count() == 0
    entry = re.compile(rf'"request_id": "{answers[-1]}".*"cancelled": true')
    service.wait_until(lambda: bool(entry.search(service.logs("ingress"))), "the request's log entry marks it cancelled")
    service.wait_until(lambda: service.client.get("/healthz").json()["requests"] == 0, "the service has no request")


def test_an_edited_prompt_is_drawn_and_drawn_again_with_another_seed(tab: Tab, service: Service) -> None:
    tab.upload(CAT)
    tab.wait_for_images(1)
    first = tab.downloaded()
    tab.edit.click()
    expect(tab.text).to_have_value(tab.prompt)
    tab.text.fill("A big yellow sunflower.")
    tab.page.get_by_role("button", name="Draw", exact=True).click()
    tab.wait_for_images(2)
    assert tab.prompt == "A big yellow sunflower."
    assert any(one.startswith("Drawing, step") for one in tab.seen[tab.seen.index("empty", 5) :])
    seed, second = tab.seed, tab.downloaded()
    body = {"prompt": tab.prompt, "seed": int(seed)}
    answer = service.client.post("/v1/images/generations", json=body).json()
    assert second == base64.b64decode(answer["data"][0]["b64_json"])

    tab.again.click()
    tab.wait_for_images(3)
    assert tab.prompt == "A big yellow sunflower."
    assert tab.seed != seed
    assert tab.downloaded() not in (first, second)

    tab.pictures.last.click()  # the oldest image: the newest comes first
    assert "cat" in tab.prompt.lower()
    assert tab.downloaded() == first
    assert [one.get_attribute("aria-current") for one in tab.pictures.all()] == [None, None, "true"]


def test_settings_reach_the_service_and_the_key_stays_in_the_tab(tab: Tab) -> None:
    sent: list[Any] = []
    tab.page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    tab.settings(steps="3", guidance_scale="2", width="96", height="80", negative_prompt="blue", key="secret-key")
    assert tab.chosen.inner_text().split()[0] == "6"
    tab.upload(CAT)
    tab.wait_for_images(1)
    assert tab.fact("Size") == "96 × 80 pixels"
    assert "Drawing, step 2 of 3" in " ".join(tab.seen)
    tab.again.click()
    tab.wait_for_images(2)
    assert tab.fact("Size") == "96 × 80 pixels"
    body = json.loads(sent[1].post_data)
    assert {
        "size": "96x80",
        "steps": 3,
        "guidance_scale": 2,
        "negative_prompt": "blue",
        "prompt": tab.prompt,
    }.items() <= body.items()
    assert [request.headers["authorization"] for request in sent] == ["Bearer secret-key", "Bearer secret-key"]
    assert not any("secret" in request.url for request in sent)
    tab.page.reload()
    assert tab.page.locator("#key").input_value() == "secret-key"
    assert tab.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_the_command_for_a_terminal_draws_the_same_picture(browser: Browser, service: Service, tmp_path: Path) -> None:
    for tool in ("curl", "jq"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not on this machine")
    name = 'it\'s a "cat"; $(touch x), `y`.ogg'
    (tmp_path / name).write_bytes(CAT.read_bytes())
    with open_tab(browser, service.url, permissions=["microphone", "clipboard-read", "clipboard-write"]) as tab:
        tab.settings(steps="4", negative_prompt="it's; $HOME")
        tab.upload(tmp_path / name)
        for pictures in (1, 2):
            tab.wait_for_images(pictures)
            tab.copy.click()
            expect(tab.copy_name).to_have_text("Copied")
            command = tab.page.evaluate("navigator.clipboard.readText()")
            assert command == tab.command.text_content()
            subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True, capture_output=True)
            assert (tmp_path / "picture.png").read_bytes() == tab.downloaded()
            assert {file.name for file in tmp_path.iterdir()} == {name, "picture.png"}
            if pictures == 1:
                tab.edit.click()
                tab.text.fill("""the cat's "hat" `is` $HOME; 'blue' \\ & co""")
                tab.page.get_by_role("button", name="Draw", exact=True).click()


def test_the_command_does_not_contain_the_key(tab: Tab) -> None:
    tab.settings(key="secret-key", steps="2")
    tab.upload(CAT)
    tab.wait_for_images(1)
    tab.copy.click()
    command = tab.command.text_content() or ""
    assert "secret" not in command
    assert '-H "Authorization: Bearer $SONOGRAPH_KEY"' in command


def test_shell_quoting_preserves_any_text(tab: Tab) -> None:
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
    words_quoted = tab.page.evaluate("async (words) => words.map((await import('/page/curl.js')).shellQuote)", words)
    for word, shown in zip(words, words_quoted, strict=True):
        assert subprocess.run(["sh", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout.decode() == word


def test_events_are_parsed_at_any_chunk_size(tab: Tab) -> None:
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
        assert tab.page.evaluate(read, [stream, size]) == [{"a": "é語🦊"}, {"b": 2}, {"c": 3}]


# Errors


def test_an_error_shows_the_services_sentence_and_links_to_the_settings(tab: Tab) -> None:
    tab.expected = ["422"]
    tab.upload(b"no recording")
    detail = tab.wait_for_failure("Recording cannot be decoded")
    assert len(detail) > 20
    assert detail.endswith(".")
    assert not tab.failure_settings.is_visible()
    tab.open_settings.click()
    tab.page.locator("#language").select_option("fr")
    tab.page.get_by_role("button", name="Done").click()
    tab.upload(CAT)
    assert "tiny.en" in tab.wait_for_failure("Invalid parameter")
    tab.failure_settings.click()
    tab.page.get_by_role("button", name="Reset").click()
    tab.page.get_by_role("button", name="Done").click()
    tab.upload(CAT)
    tab.wait_for_images(1)


def test_silence_is_reported_as_silence(tab: Tab) -> None:
    tab.expected = ["422"]
    tab.upload(media.encode(media.sweep(2) * 0, "ogg", "libopus"))
    tab.wait_for_failure("No speech in the recording")


def test_a_lost_network_is_reported_and_the_request_can_be_repeated(tab: Tab) -> None:
    tab.expected = ["ERR_INTERNET_DISCONNECTED"]
    tab.context.set_offline(True)
    tab.upload(CAT)
    assert "Connect it" in tab.wait_for_failure("No network")
    tab.context.set_offline(False)
    tab.try_again.click()
    tab.wait_for_images(1)
    assert "cat" in tab.prompt.lower()


def test_a_stream_without_its_last_event_is_reported_as_cut(tab: Tab) -> None:
    started = 'event: accepted\nid: 0\ndata: {"type":"accepted","request_id":"1","sequence":0,"deadline_ms":30000}\n\n'
    tab.page.route("**/graph", lambda route: route.fulfill(body=started, content_type="text/event-stream"))
    tab.upload(CAT)
    assert "Try again" in tab.wait_for_failure("The connection was cut")


def test_a_file_above_the_bound_is_not_sent(tab: Tab, tmp_path: Path) -> None:
    with (tmp_path / "hours.wav").open("wb") as file:
        file.truncate((25 << 20) + 1)
    tab.upload(tmp_path / "hours.wav")
    assert "25 MiB" in tab.wait_for_failure("The file is too large")
    assert not [one for one in tab.requests if one.endswith("/graph")]
    expect(tab.try_again).to_be_hidden()


def test_a_file_chosen_before_the_bounds_are_known_waits_for_them(tab: Tab, tmp_path: Path) -> None:
    pending: list[Route] = []
    tab.page.route("**/limits.json", lambda route: pending.append(route))
    tab.page.reload()
    expect(tab.state("idle")).to_be_visible()
    with (tmp_path / "hours.wav").open("wb") as file:
        file.truncate((25 << 20) + 1)
    tab.upload(tmp_path / "hours.wav")
    (limits,) = pending
    expect(tab.kept).to_contain_text("Unless its operator has set it to keep some")
    limits.continue_()
    expect(tab.kept).to_have_text("The service keeps neither the recording nor the picture.")
    assert "25 MiB" in tab.wait_for_failure("The file is too large")
    assert not [one for one in tab.requests if one.endswith("/graph")]


def test_a_refused_microphone_is_reported(playwright: Playwright, service: Service) -> None:
    browser = launch(playwright, "--use-fake-device-for-media-stream")
    with open_tab(browser, service.url, permissions=[]) as tab:
        tab.record.click()
        assert "Allow it" in tab.wait_for_failure("The microphone was refused")
    browser.close()


def test_a_page_without_https_explains_the_missing_microphone(playwright: Playwright, service: Service) -> None:
    browser = launch(playwright, "--host-resolver-rules=MAP sonograph.test 127.0.0.1", *fake_microphone(APPLE))
    with open_tab(browser, service.url.replace("127.0.0.1", "sonograph.test")) as tab:
        tab.expected = ["Cross-Origin-Opener-Policy"]
        tab.record.click()
        assert "https" in tab.wait_for_failure("No microphone here")
        tab.upload(CAT)
        tab.wait_for_images(1)
    browser.close()


# Appearance


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_in_each_state_fits_its_window_and_passes_axe(
    browser: Browser, service: Service, size: tuple[int, int], scheme: str
) -> None:
    kind = f"{'phone' if size == PHONE else 'desk'}-{scheme}"

    def check(tab: Tab, state: str) -> None:
        tab.page.wait_for_timeout(500)  # until animations end
        tab.screenshot(f"{state}-{kind}")
        assert tab.overflow_px() == 0
        if state != "settings":
            box = tab.record.bounding_box()
            assert box
            assert box["y"] + box["height"] <= size[1], "the record button is below the window's bottom edge"
        faults = Axe().run(tab.page).response["violations"]
        assert [
            (fault["id"], [node["html"] for node in fault["nodes"]])
            for fault in faults
            if fault["impact"] in ("serious", "critical")
        ] == []

    with open_tab(browser, service.url, size, color_scheme=scheme) as tab:
        tab.expected = ["422"]
        check(tab, "idle")
        tab.record.click()
        tab.page.wait_for_timeout(1200)
        check(tab, "recording")
        tab.side.click()
        tab.settings(**LARGE)
        tab.upload(APPLE)
        expect(tab.status).to_have_text(re.compile(r"Drawing, step \d+ of 150, \d+ s left"), timeout=DRAWN_MS)
        check(tab, "drawing")
        tab.record.click()
        expect(tab.status).to_have_text("Cancelled")
        tab.open_settings.click()
        check(tab, "settings")
        tab.page.get_by_role("button", name="Reset").click()
        tab.page.keyboard.press("Escape")
        tab.upload(APPLE)
        tab.wait_for_images(1)
        tab.edit.click()
        tab.text.fill("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft and a red apple")
        check(tab, "editing")
        tab.page.get_by_role("button", name="Draw", exact=True).click()
        tab.wait_for_images(2)
        check(tab, "long")
        tab.pictures.last.click()
        tab.copy.click()
        check(tab, "done")
        tab.upload(b"no recording")
        tab.wait_for_failure("Recording cannot be decoded")
        check(tab, "error")


@pytest.mark.parametrize("size", [(320, 480), (640, 360), (844, 390), (768, 1024), (1024, 640), (1920, 1080)])
def test_the_record_button_is_visible_in_every_window_size(browser: Browser, service: Service, size: tuple[int, int]) -> None:
    with open_tab(browser, service.url, size) as tab:
        expect(tab.record).to_be_in_viewport(ratio=1)
        assert tab.overflow_px() == 0


def test_nothing_moves_with_reduced_motion(browser: Browser, service: Service) -> None:
    with open_tab(browser, service.url, reduced_motion="reduce") as tab:
        tab.settings(**LARGE)
        tab.upload(CAT)
        expect(tab.state("working")).to_be_visible()
        assert tab.page.evaluate("document.getAnimations().length") == 0
        tab.page.wait_for_timeout(700)
        tab.record.click()
        expect(tab.status).to_have_text("Cancelled")
