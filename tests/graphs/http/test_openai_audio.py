"""/v1/audio over stages that answer at once: response formats, refusals, events."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import ModelUnavailable, NoSpeech
from deployments.roles.speech_to_text import Segment, Transcript, text_of
from graphs.audio.errors import AudioUndecodable
from graphs.core.graph import Graph
from graphs.core.parameters import GraphAnswer, GraphParameters
from graphs.core.progress import Queued, Retry
from graphs.http.routes.openai.audio import TranscriptEvents
from graphs.http.routes.openai.subtitles import srt, vtt
from graphs.http.settings import HttpSettings
from graphs.voice_to_text import VoiceToText
from testing.fakes import CHARACTERS, FakeService
from tests.graphs.http.test_openai_images import events, is_refused

TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
ONE, TWO = Segment(0.0, 1.5, " a red", -0.25, 0.125), Segment(1.5, 3661.0421, " apple", -0.25, 0.125)
SILENT = Segment(1.5, 1.5, "", -0.25, 0.125)


@pytest.fixture
def service() -> FakeService:
    return FakeService(HttpSettings(max_upload_bytes=1000, deadline_s=50))


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service.app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def post(client: httpx.AsyncClient, path: str = TRANSCRIPTIONS, **parameters: Any) -> httpx.Response:
    return await client.post(path, files={"file": b"sound"}, data=parameters)


async def test_each_response_format(client: httpx.AsyncClient) -> None:
    answers = {format: await post(client, response_format=format) for format in ("json", "text", "srt", "vtt", "verbose_json")}
    assert {answer.status_code for answer in answers.values()} == {200}
    usage = {"type": "duration", "seconds": 1}
    assert answers["json"].json() == (await post(client)).json() == {"text": "a red apple", "usage": usage}
    assert answers["text"].text == "a red apple\n"
    assert answers["srt"].text == "1\n00:00:00,000 --> 00:00:01,500\na red apple\n\n"
    assert answers["vtt"].text == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na red apple\n\n"
    for format in ("text", "srt", "vtt"):
        assert answers[format].headers["content-type"] == "text/plain; charset=utf-8"
    segment = {"id": 0, "start": 0.0, "end": 1.5, "text": "a red apple", "avg_logprob": -0.25, "no_speech_prob": 0.125}
    assert answers["verbose_json"].json() == {
        "task": "transcribe",
        "language": "en",
        "duration": 1.0,
        "text": "a red apple",
        "segments": [segment],
        "usage": usage,
    }


def test_subtitles_format_hours_skip_silence_and_escape_cue_arrows() -> None:
    arrow = Segment(2.0, 3.0, "a\n\n2 --> b", -0.25, 0.125)
    assert srt((ONE, SILENT, TWO, arrow)) == (
        "1\n00:00:00,000 --> 00:00:01,500\na red\n\n"
        "2\n00:00:01,500 --> 01:01:01,042\napple\n\n"
        "3\n00:00:02,000 --> 00:00:03,000\na 2 -> b\n\n"
    )
    assert vtt((ONE, SILENT)) == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na red\n\n"


async def test_the_parameters_reach_the_model(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    await post(client, model="whisper-1", language=" de ", prompt="Äpfel", temperature="0.5", timeout_ms="9000")
    await post(client, TRANSLATIONS, model="tiny.en", prompt="apples", response_format="verbose_json")
    requested = [(one.language, one.task, one.prompt, one.temperature) for one, _ in service.whisper.calls]
    assert requested == [("de", "transcribe", "Äpfel", 0.5), ("", "translate", "apples", 0.0)]
    assert service.recordings == [b"sound", b"sound"]
    (_, first), (_, second) = service.whisper.calls
    assert 0 < first.time_left.seconds <= 9 < second.time_left.seconds <= 50
    assert [json.loads(record.getMessage())["route"] for record in caplog.records] == [TRANSCRIPTIONS, TRANSLATIONS]


async def test_a_stream_has_openais_events(client: httpx.AsyncClient, service: FakeService) -> None:
    service.whisper.progress = (Queued("whisper", 1), ONE, SILENT, TWO)
    assert events(await post(client, stream="true")) == [
        {"type": "transcript.text.delta", "delta": "a red"},
        {"type": "transcript.text.delta", "delta": " apple"},
        {"type": "transcript.text.done", "text": "a red apple"},
    ]


async def test_a_retried_stage_sends_no_delta_twice(client: httpx.AsyncClient, service: FakeService) -> None:
    service.whisper.progress = (ONE, Retry("whisper"), ONE, TWO)
    deltas = [event["delta"] for event in events(await post(client, stream="true")) if "delta" in event]
    assert deltas == ["a red", " apple"]


@pytest.mark.parametrize(
    "texts",
    [
        ("こんにちは。", "元気ですか。"),
        ("你好，", "", "世界"),
        ("สวัสดี", "ชาวโลก"),
        (" Guten", " ", " Tag\n", "", "\u3000ein Apfel "),
        ("  ",),
    ],
)
async def test_the_deltas_are_the_text_in_every_language(
    client: httpx.AsyncClient, service: FakeService, texts: tuple[str, ...]
) -> None:
    segments = tuple(Segment(0.0, 1.0, text, -0.25, 0.125) for text in texts)
    service.whisper.progress = segments
    service.whisper.result = Transcript(text_of(segments), "ja", segments)
    *deltas, done = events(await post(client, stream="true"))
    assert "".join(event["delta"] for event in deltas) == done["text"] == "".join(texts).strip()


@given(st.data(), st.lists(st.text(CHARACTERS + "  \n", max_size=4), max_size=6))
def test_the_deltas_are_the_text_whatever_its_segments_are_and_wherever_a_replica_dies(
    data: st.DataObject, texts: list[str]
) -> None:
    segments = [Segment(0.0, 1.0, text, -0.25, 0.125) for text in texts]
    lost = data.draw(st.lists(st.integers(0, len(texts)), max_size=2))
    progress = [one for count in lost for one in (*segments[:count], Retry("whisper"))] + segments
    stream = TranscriptEvents()
    sent = [event for one in progress for event in stream.progress(one)]
    sent += stream.done(Transcript(text_of(segments), "en", tuple(segments)))
    *deltas, done = (json.loads(event.partition("data: ")[2]) for event in sent)
    assert "".join(event["delta"] for event in deltas) == done["text"] == "".join(texts).strip()
    assert all(event["delta"] for event in deltas)


async def test_a_model_without_segments_sends_its_text_as_one_delta(client: httpx.AsyncClient) -> None:
    delta, done = events(await post(client, stream="true"))
    assert delta["delta"] == done["text"] == "a red apple"


async def test_other_words_of_a_second_replica_are_not_mixed_with_those_that_were_sent(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    service.whisper.progress = (Segment(0.0, 1.5, " a read", -0.25, 0.125), Retry("whisper"), ONE, TWO)
    assert [event.get("delta", event.get("text")) for event in events(await post(client, stream="true"))] == [
        "a read",
        "a red apple",
    ]


async def test_an_error_in_a_stream_is_an_event(client: httpx.AsyncClient, service: FakeService) -> None:
    service.whisper.result = ModelUnavailable("gone")
    (error,) = events(await post(client, stream="true"))
    assert (error["type"], error["error"]["code"]) == ("error", "model_unavailable")


@pytest.mark.parametrize(
    ("path", "parameters", "param", "message_part"),
    [
        (TRANSCRIPTIONS, {"response_format": "diarized_json"}, "response_format", "'json', 'text'"),
        (TRANSCRIPTIONS, {"response_format": "srt", "stream": "true"}, None, "json or text"),
        (TRANSCRIPTIONS, {"timestamp_granularities[]": "word"}, "timestamp_granularities", "only be segment"),
        (TRANSCRIPTIONS, {"timestamp_granularities[]": ["word", "segment"]}, "timestamp_granularities", "only be segment"),
        (TRANSCRIPTIONS, {"temperature": "1.1"}, "temperature", "1"),
        (TRANSCRIPTIONS, {"temperature": "nan"}, "temperature", "finite"),
        (TRANSCRIPTIONS, {"prompt": "x" * 1001}, "prompt", "1000"),
        (TRANSCRIPTIONS, {"include[]": "logprobs"}, None, "include is no parameter"),
        (TRANSCRIPTIONS, {"model": ["whisper-1", "whisper-1"]}, None, "twice"),
        (TRANSLATIONS, {"language": "de"}, None, "language is no parameter"),
        (TRANSLATIONS, {"stream": "true"}, None, "stream is no parameter"),
    ],
)
async def test_an_impossible_parameter_is_refused_by_name(
    client: httpx.AsyncClient, service: FakeService, path: str, parameters: dict[str, Any], param: str | None, message_part: str
) -> None:
    assert message_part in is_refused(await post(client, path, **parameters), 422, "invalid_parameter", param)
    assert service.whisper.calls == []


async def test_segment_timestamps_may_be_requested(client: httpx.AsyncClient) -> None:
    requested = {"timestamp_granularities[]": "segment", "chunking_strategy": "auto", "stream": "false"}
    assert (await post(client, response_format="verbose_json", **requested)).status_code == 200


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
async def test_a_body_that_is_no_form_with_a_file_is_refused(client: httpx.AsyncClient, path: str) -> None:
    raw = await client.post(path, content=b"sound", headers={"content-type": "audio/wav"})
    is_refused(raw, 415, "unsupported_media_type")
    is_refused(await client.post(path, files={"sound": b"x"}), 400, "malformed_request")
    is_refused(await client.post(path, files={"file": bytes(1001)}), 413, "audio_too_large")


@pytest.mark.parametrize("model", ["stable-diffusion", "gpt-4o-transcribe"])
async def test_a_model_of_another_role_is_not_found(client: httpx.AsyncClient, service: FakeService, model: str) -> None:
    message = is_refused(await post(client, model=model), 404, "model_not_found", "model")
    assert message.endswith("there are tiny.en, whisper-1")
    assert service.whisper.calls == []


async def test_a_recording_without_speech_is_refused_in_openais_shape(client: httpx.AsyncClient, service: FakeService) -> None:
    service.undecodable = AudioUndecodable("x")
    is_refused(await post(client), 422, "audio_undecodable")
    service.undecodable, service.whisper.result = None, NoSpeech("x")
    is_refused(await post(client, TRANSLATIONS), 422, "no_speech")


async def test_the_models_are_listed_and_found_by_their_ids(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [(one["id"], one["deployment"]) for one in body["data"]] == [
        ("tiny.en", "whisper"),
        ("whisper-1", "whisper"),
        ("small-stable-diffusion", "diffusion"),
        ("stable-diffusion", "diffusion"),
    ]
    for model in body["data"]:
        assert (await client.get(f"/v1/models/{model['id']}")).json() == model
        assert set(model) == {"id", "object", "created", "owned_by", "deployment"}
    is_refused(await client.get("/v1/models/gpt-4o"), 404, "model_not_found", "model")


async def test_a_hub_id_with_a_slash_is_a_model_too(service: FakeService) -> None:
    service.diffusion.settings = type(service.diffusion.settings)(model="stabilityai/sd-turbo")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        assert (await client.get("/v1/models/stabilityai/sd-turbo")).json()["id"] == "stabilityai/sd-turbo"


async def test_a_service_without_a_model_of_the_role_answers_404(service: FakeService) -> None:
    service.mounted = (VoiceToText,)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        message = is_refused(await client.post("/v1/images/generations", json={"prompt": "x"}), 404, "not_found")
        assert message == "this service runs no model for text to image: its routes are listed at /docs"
        assert (await post(client)).status_code == 200
        assert [one["deployment"] for one in (await client.get("/v1/models")).json()["data"]] == ["whisper", "whisper"]
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/graph")).status_code == 405  # GET /graph is for operators


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
async def test_a_model_that_does_not_serve_is_refused_before_decoding(
    client: httpx.AsyncClient, service: FakeService, path: str
) -> None:
    service.whisper.unready = ModelUnavailable("whisper is starting")
    answer = await post(client, path)
    assert is_refused(answer, 503, "model_unavailable") == "whisper is starting"
    assert answer.headers["retry-after"] == "5"
    is_refused(await post(client, path, temperature="2"), 422, "invalid_parameter", "temperature")
    assert service.whisper.calls == service.recordings == []


class Drawing(Graph[Any, Any]):
    """Graph without speech to text; no test calls its own route."""

    path = "/draw"
    summary = "Draw"
    stages = {"generate": "text_to_image"}
    parameters = GraphParameters
    answer = GraphAnswer

    async def run(self, audio: Any, parameters: Any, context: Any) -> Any:
        raise NotImplementedError

    def to_answer(self, result: Any, parameters: Any, context: Any) -> GraphAnswer:
        raise NotImplementedError


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
async def test_without_a_model_for_speech_the_routes_are_not_found_and_nothing_is_decoded(
    service: FakeService, path: str
) -> None:
    service.mounted = (Drawing,)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        message = is_refused(await post(client, path), 404, "not_found")
        assert message == "this service runs no model for speech to text: its routes are listed at /docs"
        assert (await client.post("/v1/images/generations", json={"prompt": "x"})).status_code == 200
        assert [one["deployment"] for one in (await client.get("/v1/models")).json()["data"]] == ["diffusion"] * 2
    assert service.recordings == []


async def test_an_alias_with_a_slash_names_its_model(service: FakeService) -> None:
    service.diffusion.settings = type(service.diffusion.settings)(aliases=("org/turbo",))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        assert (await client.get("/v1/models/org/turbo")).json()["deployment"] == "diffusion"
        assert (await client.post("/v1/images/generations", json={"prompt": "x", "model": "org/turbo"})).status_code == 200
