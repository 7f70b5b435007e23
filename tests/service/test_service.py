"""The whole path on a real local Ray, with real models in real Triton servers, over HTTP."""

import base64
import io
import itertools
import json
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graphs.audio.decode import decode
from testing import media, speech
from testing.service import ROOT, Service

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
WORDS = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def word_error_rate(references: list[str], transcripts: list[str]) -> float:
    return float(jiwer.wer(references, transcripts, reference_transform=WORDS, hypothesis_transform=WORDS))


def pixels(picture: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.int16)


def serves_as_before(service: Service) -> None:
    assert "cat" in service.draw(CAT, seed="1")["transcript"].lower()


def test_the_printed_curls_work_as_printed(service: Service, tmp_path: Path) -> None:
    lines = re.findall(r"^ *(curl .*)$", service.wait_for_output("curl"), re.MULTILINE)
    draw, listen = (shlex.split(line.replace("picture.png", str(tmp_path / "picture.png"))) for line in lines)
    subprocess.run(draw, cwd=ROOT, check=True, timeout=120)
    assert Image.open(tmp_path / "picture.png").size == (64, 64)
    answer = subprocess.run(listen, cwd=ROOT, check=True, timeout=120, capture_output=True)
    assert "apple" in json.loads(answer.stdout)["transcript"]


def test_the_sentences_of_two_voices_are_transcribed(service: Service) -> None:
    sentences = speech.sentences()
    transcripts = [service.draw(path.read_bytes())["transcript"] for path in sentences]
    assert len(sentences) >= 16
    assert word_error_rate(list(sentences.values()), transcripts) <= 0.10


@pytest.mark.parametrize("format", media.FORMATS)
def test_every_format_is_transcribed(service: Service, format: str) -> None:
    recording = media.FORMATS[format](decode(CAT, 60))
    answer = service.draw(recording)
    assert "cat sleeping on a blue sofa" in answer["transcript"].lower()


def test_an_upload_of_several_megabytes_is_transcribed(service: Service) -> None:
    audio = np.concatenate([decode(CAT, 60), np.zeros(20 * 16_000, np.int16)])
    recording = media.encode(media.stereo(audio), "wav", "pcm_f32le", rate_hz=48_000, layout="stereo")
    assert len(recording) > 8_000_000
    assert "cat" in service.draw(recording)["transcript"].lower()
    raw = service.client.post("/graph", content=recording, headers={"Content-Type": "audio/wav", "Accept": "application/json"})
    assert "cat" in raw.json()["transcript"].lower()


def test_quiet_speech_is_transcribed(service: Service) -> None:
    audio = decode(CAT, 60).astype(np.float64)
    quiet = audio * 10 ** (-40 / 20) * 32768 / np.sqrt(np.square(audio).mean())
    assert "cat" in service.draw(media.encode(quiet.round().astype(np.int16), "wav", "pcm_s16le"))["transcript"].lower()


def test_the_json_answer_has_all_fields_and_headers(service: Service) -> None:
    answer = service.post(CAT, seed="5", steps="4", width="72", height="80", prompt_prefix="a drawing of", output_format="webp")
    body = answer.json()
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-seed"] == "5" == str(body["seed"])
    assert unquote(answer.headers["x-transcript"]) == body["transcript"]
    assert body["prompt"] == f"a drawing of {body['transcript']}"
    assert body["language"] == "en"
    assert body["segments"][0]["start"] < body["segments"][-1]["end"] < 10
    assert (body["image"]["media_type"], body["image"]["width"], body["image"]["height"]) == ("image/webp", 72, 80)
    picture = Image.open(io.BytesIO(base64.b64decode(body["image"]["base64"])))
    assert (picture.format, picture.size) == ("WEBP", (72, 80))
    assert body["models"] == {"whisper": "tiny.en", "diffusion": "small-stable-diffusion"}
    assert list(body["timings_ms"]) == ["decode", "whisper", "diffusion", "encode"]
    assert [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")] == list(body["timings_ms"])
    assert body["prompt_truncated"] is False


def test_the_same_seed_gives_the_same_bytes_and_no_seed_gives_another_image(service: Service) -> None:
    first, second = (service.post(CAT, "image/png", seed="9") for _ in range(2))
    assert first.headers["content-type"] == "image/png"
    assert first.content == second.content
    notes = Image.open(io.BytesIO(first.content)).text
    assert notes == {"prompt": unquote(first.headers["x-transcript"]), "seed": "9", "model": "small-stable-diffusion"}
    one, other = service.draw(CAT), service.draw(CAT)
    assert one["seed"] != other["seed"]
    assert one["image"]["base64"] != other["image"]["base64"]


def test_eight_concurrent_requests_each_get_their_own_transcript_and_image(service: Service) -> None:
    files = sorted(speech.HERE.glob("*.ogg"))[:8]

    def draw(number: int) -> tuple[str, NDArray[np.int16]]:
        answer = service.draw(files[number].read_bytes(), seed=str(number))
        return answer["transcript"], pixels(base64.b64decode(answer["image"]["base64"]))

    alone = [draw(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, range(8)))
    for (text_alone, picture_alone), (text, picture) in zip(alone, together, strict=True):
        assert text == text_alone
        assert np.abs(picture - picture_alone).max() <= 2
    assert len({picture.tobytes() for _, picture in together}) == 8


def test_several_pictures_of_one_request_are_those_of_their_seeds(service: Service) -> None:
    several = service.draw(CAT, seed="20", n="4")["images"]
    assert [one["seed"] for one in several] == [20, 21, 22, 23]
    with service.events(CAT, {"Accept": "text/event-stream"}, seed="20", n="4") as events:
        streamed = {event["index"]: event["image"] for event in events if event["type"] == "image"}
    for index, one in enumerate(several):
        drawn = pixels(base64.b64decode(one["base64"]))
        alone = service.draw(CAT, seed=str(one["seed"]))["image"]
        assert np.abs(drawn - pixels(base64.b64decode(alone["base64"]))).max() <= 2
        assert np.abs(drawn - pixels(base64.b64decode(streamed[index]["base64"]))).max() <= 2
    image = service.post(CAT, "image/png", n="2")
    assert (image.status_code, image.json()["code"]) == (422, "invalid_parameter")


def form(recording: bytes = CAT, **fields: str) -> dict[str, Any]:
    return {"files": {"file": recording}, "data": fields}


NOISE = np.random.default_rng(0).normal(0, 3000, 5 * 16_000).astype(np.int16)
HUM = (8000 * np.sin(2 * np.pi * 50 * np.arange(5 * 16_000) / 16_000)).astype(np.int16)
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("no multipart field", {"files": {"sound": CAT}}, 400, "malformed_request"),
    ("an unknown path", {"url": "/graphs", **form()}, 404, "not_found"),
    ("an unknown method", {"method": "GET", "url": "/listen"}, 405, "method_not_allowed"),
    ("a media type that is not offered", {"headers": {"Accept": "text/html"}, **form()}, 406, "not_acceptable"),
    ("30 MiB", form(bytes(30 << 20)), 413, "audio_too_large"),
    ("30 MiB, raw", {"content": bytes(30 << 20), "headers": {"Content-Type": "audio/wav"}}, 413, "audio_too_large"),
    ("hours of silence in few bytes", form(media.silence_flac(3)), 413, "audio_too_long"),
    ("a raw body of text", {"content": b"hello", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type"),
    ("0 bytes", form(b""), 422, "audio_empty"),
    ("a renamed text file", form((ROOT / "Makefile").read_bytes()), 422, "audio_undecodable"),
    ("a corrupt file", form(b"RIFF" + bytes(range(256)) * 40), 422, "audio_undecodable"),
    ("a playlist", form(media.m3u8("http://127.0.0.1:9/x.ts")), 422, "audio_undecodable"),
    ("a film without sound", form(media.video_only()), 422, "audio_undecodable"),
    ("silence", form(media.encode(np.zeros(48_000, np.int16), "wav", "pcm_s16le")), 422, "no_speech"),
    ("white noise", form(media.encode(NOISE, "wav", "pcm_s16le")), 422, "no_speech"),
    ("mains hum", form(media.encode(HUM, "flac", "flac")), 422, "no_speech"),
    ("a parameter beyond its bound", form(steps="151"), 422, "invalid_parameter"),
    ("a side beyond the setting", form(width="520"), 422, "invalid_parameter"),
    ("an English-only model asked for French", form(language="fr"), 422, "invalid_parameter"),
    ("an English-only model asked to translate", form(task="translate"), 422, "invalid_parameter"),
]


@pytest.mark.parametrize(("request_", "status", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_refusal_states_its_reason_and_the_next_request_is_served(
    service: Service, request_: dict[str, Any], status: int, code: str
) -> None:
    answer = service.client.request(**{"method": "POST", "url": "/graph", **request_})
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:sonograph:problem:{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    serves_as_before(service)


def test_an_english_only_model_names_the_setting(service: Service) -> None:
    problem = service.post(CAT, language="fr").json()
    assert problem["stage"] == "whisper"
    assert "whisper.model" in problem["detail"]


def test_damaged_recordings_are_transcribed_as_far_as_they_decode_or_refused(service: Service) -> None:
    mp3 = media.FORMATS["mp3"](decode(CAT, 60))
    pcm = decode(CAT, 60).tobytes()
    assert "cat" in service.draw(mp3[: len(mp3) * 3 // 4])["transcript"].lower()
    assert service.post(mp3[:40]).json()["code"] == "audio_undecodable"
    assert "cat" in service.draw(media.wav(pcm, claimed_bytes=0xFFFFFFFF))["transcript"].lower()
    assert "cat" in service.draw(media.wav(pcm, claimed_bytes=10 * len(pcm)))["transcript"].lower()
    assert "cat" in service.draw(media.wav(pcm, claimed_bytes=0))["transcript"].lower()


@pytest.mark.parametrize("sent", ["abc-123_X.y", "a" * 64])
def test_a_well_formed_request_id_is_kept(service: Service, sent: str) -> None:
    answer = service.client.get("/healthz", headers={"X-Request-ID": sent})
    assert answer.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize("sent", ["a b", "a" * 65, "<script>", "a\tb"])
def test_another_request_id_is_replaced(service: Service, sent: str) -> None:
    answer = service.client.post("/graph", headers={"X-Request-ID": sent})
    (id,) = answer.headers.get_list("x-request-id")
    assert id != sent
    assert answer.json()["request_id"] == id


def test_a_client_that_disconnects_during_its_upload_leaves_no_request(service: Service) -> None:
    def half() -> Any:
        yield CAT[:2000]
        raise ConnectionError("the laptop was closed")

    with pytest.raises(ConnectionError), httpx.Client() as client:
        client.post(f"{service.url}/graph", content=half(), headers={"Content-Type": "audio/ogg"})
    serves_as_before(service)


SLOW = {"steps": "150", "width": "512", "height": "512"}
"""Minutes of denoising on two cores."""


def test_an_exceeded_deadline_is_an_error_that_names_the_stage_and_frees_the_model(service: Service) -> None:
    """The service's own deadline. The model is suspended between its steps, so that no machine is too fast for the test."""
    stub = service.stub("diffusion")
    with service.events(CAT, **SLOW) as events:
        received = list(itertools.takewhile(lambda event: event["type"] != "image.step", events))
        stub.suspend()
        try:
            received += list(events)
        finally:
            stub.resume()
    problem = received[-1]["problem"]
    assert (problem["status"], problem["code"], problem["stage"]) == (504, "deadline_exceeded", "diffusion")
    serves_as_before(service)


def test_a_replica_without_its_stub_stays_small(service: Service) -> None:
    for deployment in ("whisper", "diffusion"):
        assert service.replica(deployment).memory_info().rss < 250e6
