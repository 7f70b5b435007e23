"""Which answer a client gets, and what its headers say."""

import json
from base64 import b64decode
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.http.errors import NotAcceptable
from graphs.http.responses import TRANSCRIPT_BYTES, answer, negotiate, percent_encoded
from testing.fakes import CHARACTERS, PNG, drawing

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
FIREFOX_IMAGE = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
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
    assert negotiate(accept, output_format) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/gif, text/plain;q=0.5", "image/png;q=0", "*/*;q=0", "image"])
def test_an_accept_that_takes_none_of_the_answers_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept, None)


@settings(max_examples=50)
@given(st.text(CHARACTERS), st.sampled_from([None, "png", "jpeg", "webp"]))
def test_any_accept_is_understood_or_refused(accept: str, output_format: str | None) -> None:
    try:
        media_type, format = negotiate(accept, output_format)
    except NotAcceptable:
        return
    assert format == (output_format or format)
    assert media_type in ("application/json", f"image/{format}")


def test_a_picture_comes_with_what_was_said_its_seed_and_its_times() -> None:
    response = answer(drawing("Straße & Öl"), "image/png", "png", "id-1")
    assert response.body == PNG
    assert response.headers["content-type"] == "image/png"
    assert unquote(response.headers["x-transcript"]) == "Straße & Öl"
    assert response.headers["x-transcript"].isascii()
    assert response.headers["x-seed"] == "7"
    assert response.headers["server-timing"] == "decode;dur=1.0, whisper;dur=20.0, diffusion;dur=30.0, encode;dur=2.0"
    assert response.headers["vary"] == "Accept"


def test_json_holds_all_that_is_known_of_the_drawing() -> None:
    response = answer(drawing("ein Apfel"), "application/json", "webp", "id-1")
    content = json.loads(response.body)
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
    assert {"x-transcript", "x-seed", "server-timing"} <= set(response.headers)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("", 0), ("a" * 1024, 1024), ("a" * 1025, 1024), ("é" * 170, 170), ("é" * 171, 170), ("語" * 200, 113), ("🦊" * 200, 85)],
)
def test_a_long_transcript_is_cut_at_a_character(text: str, kept: int) -> None:
    encoded = percent_encoded(text)
    assert len(encoded) <= TRANSCRIPT_BYTES == 1024
    assert unquote(encoded, errors="strict") == text[:kept]


@given(st.text(CHARACTERS))
def test_a_transcript_survives_its_header(text: str) -> None:
    encoded = percent_encoded(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert text.startswith(unquote(encoded, errors="strict"))
