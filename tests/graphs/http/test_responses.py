"""Content negotiation, and headers and fields of the answers."""

import json
from base64 import b64decode
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.roles.text_to_image import GenerateRequest
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.http.errors import NotAcceptable
from graphs.http.responses import HEADER_BYTES, negotiate, percent_encoded, response
from graphs.voice_to_image import Drawing, DrawParameters, VoiceToImage
from graphs.voice_to_text import ListenParameters, VoiceToText
from testing.fakes import CHARACTERS, PNG, FakeService, image, transcript

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
FIREFOX_IMAGE = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
FORMATS = VoiceToImage.formats
SAFARI = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "output_format", "expected"),
    [
        (None, None, ("image/png", "png")),
        ("", None, ("image/png", "png")),
        ("*/*", None, ("image/png", "png")),
        ("image/*", None, ("image/png", "png")),
        ("image/png", None, ("image/png", "png")),
        ("image/jpeg", None, ("image/jpeg", "jpeg")),
        ("IMAGE/WEBP", None, ("image/webp", "webp")),
        ("application/json", None, ("application/json", "png")),
        ("application/*", None, ("application/json", "png")),
        ("application/json, image/png;q=0.5", None, ("application/json", "png")),
        ("application/json;q=0.5, image/png", None, ("image/png", "png")),
        ("image/webp;q=0.2, image/jpeg;q=0.9", None, ("image/jpeg", "jpeg")),
        ("image/png;q=0, image/*", None, ("image/jpeg", "jpeg")),
        ("*/*;q=0.1, image/webp", None, ("image/webp", "webp")),
        ("application/json, */*;q=0.1", None, ("application/json", "png")),
        (CHROME, None, ("image/webp", "webp")),
        (FIREFOX_IMAGE, None, ("image/png", "png")),
        (SAFARI, None, ("image/png", "png")),
        (None, "webp", ("image/webp", "webp")),
        ("*/*", "jpeg", ("image/jpeg", "jpeg")),
        ("image/png", "jpeg", ("image/jpeg", "jpeg")),
        (CHROME, "png", ("image/png", "png")),
        ("application/json", "webp", ("application/json", "webp")),
        ("application/json, image/*;q=0.1", "jpeg", ("application/json", "jpeg")),
    ],
)
def test_accept_and_output_format_decide_the_answer(
    accept: str | None, output_format: str | None, expected: tuple[str, str]
) -> None:
    assert negotiate(accept, output_format, FORMATS) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/gif, text/plain;q=0.5", "image/png;q=0", "*/*;q=0", "image"])
def test_an_accept_that_allows_no_answer_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept, None, FORMATS)


@settings(max_examples=50)
@given(st.text(CHARACTERS), st.sampled_from([None, "png", "jpeg", "webp"]))
def test_any_accept_is_honoured_or_refused(accept: str, output_format: str | None) -> None:
    try:
        media_type, format = negotiate(accept, output_format, FORMATS)
    except NotAcceptable:
        return
    assert format == (output_format or format)
    assert media_type in ("application/json", f"image/{format}")


@pytest.mark.parametrize("accept", [None, "", "*/*", "application/json", "application/*", "text/event-stream;q=0.1, */*"])
def test_a_graph_without_formats_answers_with_json(accept: str | None) -> None:
    assert negotiate(accept, None, {}) == ("application/json", None)


def test_a_graph_without_formats_sends_events_if_accept_requests_them() -> None:
    assert negotiate("text/event-stream", None, {}) == ("text/event-stream", None)


@pytest.mark.parametrize("accept", ["image/png", "image/*", "text/html", "application/json;q=0"])
def test_a_graph_without_formats_refuses_an_accept_without_json_and_events(accept: str) -> None:
    with pytest.raises(NotAcceptable, match=r"can be application/json, text/event-stream, and Accept takes none"):
        negotiate(accept, None, {})


def context() -> RequestContext:
    times = {"decode": 1.04, "whisper": 20.0, "diffusion": 30.0, "encode": 2.0}
    return RequestContext("id-1", TimeLeft(50), timings_ms=times, models={"whisper": "tiny.en", "diffusion": "tiny"})


def drawn(text: str, media_type: str, format: str = "png", degraded: dict[str, str] | None = None) -> Any:
    graph, _ = FakeService().graphs()
    found = Drawing(transcript(text), [GenerateRequest(text, seed=7, format=format)], [image()])
    finished = context()
    finished.degraded |= degraded or {}
    return response(graph, found, DrawParameters(), media_type, finished)


def test_the_headers_of_an_image_have_the_transcript_the_seed_and_the_times() -> None:
    answer = drawn("Straße & Öl", "image/png")
    assert answer.body == PNG
    assert answer.headers["content-type"] == "image/png"
    assert unquote(answer.headers["x-transcript"]) == "Straße & Öl"
    assert answer.headers["x-transcript"].isascii()
    assert answer.headers["x-seed"] == "7"
    assert answer.headers["server-timing"] == "decode;dur=1.0, whisper;dur=20.0, diffusion;dur=30.0, encode;dur=2.0"
    assert answer.headers["vary"] == "Accept"
    assert "x-degraded" not in answer.headers


def test_json_has_all_fields_of_the_drawing() -> None:
    answer = drawn("ein Apfel", "application/json", "webp")
    content = json.loads(answer.body)
    assert b64decode(content["image"].pop("base64")) == PNG
    assert content == {
        "request_id": "id-1",
        "transcript": "ein Apfel",
        "language": "en",
        "segments": [{"start": 0.0, "end": 1.5, "text": "ein Apfel", "avg_logprob": -0.25, "no_speech_prob": 0.125}],
        "prompt": "ein Apfel",
        "prompt_truncated": False,
        "seed": 7,
        "image": {"media_type": "image/webp", "width": 64, "height": 64},
        "timings_ms": {"decode": 1.0, "whisper": 20.0, "diffusion": 30.0, "encode": 2.0},
        "models": {"whisper": "tiny.en", "diffusion": "tiny"},
    }
    assert {"x-transcript", "x-seed", "server-timing", "vary"} <= set(answer.headers)


def test_a_transcription_is_json_with_its_times_and_without_headers_of_a_drawing() -> None:
    _, graph = FakeService().graphs()
    assert isinstance(graph, VoiceToText)
    answer = response(graph, transcript("ein Apfel"), ListenParameters(), "application/json", context())
    assert json.loads(answer.body) == {
        "request_id": "id-1",
        "transcript": "ein Apfel",
        "language": "en",
        "segments": [{"start": 0.0, "end": 1.5, "text": "ein Apfel", "avg_logprob": -0.25, "no_speech_prob": 0.125}],
        "timings_ms": {"decode": 1.0, "whisper": 20.0, "diffusion": 30.0, "encode": 2.0},
        "models": {"whisper": "tiny.en", "diffusion": "tiny"},
    }
    assert {"server-timing", "vary"} <= set(answer.headers)
    assert not {"x-transcript", "x-seed", "x-degraded"} & set(answer.headers)


@pytest.mark.parametrize("media_type", ["image/png", "application/json"])
def test_a_degraded_answer_names_the_missing_stages_in_a_header(media_type: str) -> None:
    degraded = {"enhance": "model_unavailable: gone", "caption": "deadline_exceeded: late"}
    answer = drawn("ein Apfel", media_type, degraded=degraded)
    assert answer.headers["x-degraded"] == "enhance, caption"
    assert media_type != "application/json" or json.loads(answer.body)["degraded"] == degraded


@pytest.mark.parametrize(
    ("text", "kept"),
    [("", 0), ("a" * 1024, 1024), ("a" * 1025, 1024), ("é" * 170, 170), ("é" * 171, 170), ("語" * 200, 113), ("🦊" * 200, 85)],
)
def test_a_long_transcript_is_cut_between_characters(text: str, kept: int) -> None:
    encoded = percent_encoded(text)
    assert len(encoded) <= HEADER_BYTES == 1024
    assert unquote(encoded, errors="strict") == text[:kept]


@given(st.text(CHARACTERS))
def test_a_transcript_survives_its_header(text: str) -> None:
    encoded = percent_encoded(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert text.startswith(unquote(encoded, errors="strict"))
