"""The openai client and the real service: synchronous, asynchronous, streaming."""

import asyncio
import base64
import contextlib
import io
import json
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image, ImageChops

from testing import media, speech
from testing.service import ROOT, Service
from tests.service.test_request_life import Steps

pytestmark = pytest.mark.serve
CAT = ("cat.ogg", (speech.HERE / "cat-slt.ogg").read_bytes())
LONG: dict[str, Any] = {"prompt": "a red apple", "size": "512x512", "extra_body": {"steps": 150, "progress": True}}
"""Minutes of denoising on two cores."""


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def picture(b64_json: str | None) -> Image.Image:
    found = Image.open(io.BytesIO(base64.b64decode(b64_json or "", validate=True)))
    found.load()
    return found


def difference(one: Image.Image, other: Image.Image) -> int:
    """Return the greatest of any channel, of 255."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def test_an_image_is_generated_with_the_requests_seed(client: openai.OpenAI) -> None:
    options = {"model": "stable-diffusion", "prompt": "a red apple", "n": 2, "extra_body": {"seed": 1, "steps": 4}}
    first, again = (client.images.generate(**options) for _ in range(2))
    assert first.data is not None
    for one, other in zip(first.data, again.data or (), strict=True):
        assert difference(picture(one.b64_json), picture(other.b64_json)) <= 2, "another batch may round otherwise"
    assert difference(picture(first.data[0].b64_json), picture(first.data[1].b64_json)) > 2
    assert [picture(one.b64_json).text["seed"] for one in first.data] == ["1", "2"]
    assert (first.size, first.output_format) == ("64x64", "png")


def test_an_image_is_streamed_with_its_previews(client: openai.OpenAI) -> None:
    own = {"seed": 1, "steps": 6}
    plain = client.images.generate(prompt="a red apple", extra_body=own)
    *partial, done = client.images.generate(prompt="a red apple", stream=True, partial_images=3, extra_body=own)
    assert [event.type for event in partial] == 3 * ["image_generation.partial_image"]
    assert [event.partial_image_index for event in partial] == [0, 1, 2]
    assert {picture(event.b64_json).format for event in partial} == {"JPEG"}
    assert done.type == "image_generation.completed"
    assert plain.data is not None
    assert done.b64_json == plain.data[0].b64_json


def test_each_response_format_of_a_transcript(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "whisper-1", "file": CAT}
    transcript = client.audio.transcriptions.create(**options)
    assert "cat sleeping on a blue sofa" in transcript.text
    assert transcript.usage is not None
    assert (transcript.usage.type, transcript.usage.seconds) == ("duration", 3)
    assert client.audio.transcriptions.create(**options, response_format="text") == transcript.text + "\n"
    subtitles = client.audio.transcriptions.create(**options, response_format="srt")
    assert re.fullmatch(rf"1\n00:00:00,\d{{3}} --> 00:00:0\d,\d{{3}}\n{re.escape(transcript.text)}\n\n", str(subtitles))
    assert str(client.audio.transcriptions.create(**options, response_format="vtt")).startswith("WEBVTT\n\n00:00:00.")
    verbose = client.audio.transcriptions.create(**options, response_format="verbose_json", timestamp_granularities=["segment"])
    assert (verbose.text, verbose.language) == (transcript.text, "en")
    assert verbose.segments is not None
    assert [one.text for one in verbose.segments] == [f" {transcript.text}"], "with its space, as OpenAI's"
    assert 0 <= verbose.segments[0].start < verbose.segments[0].end <= verbose.duration + 1


def test_a_prompt_and_a_temperature_reach_the_model(client: openai.OpenAI) -> None:
    shouted = client.audio.transcriptions.create(
        model="tiny.en", file=CAT, prompt="A DOG ON A GREEN SOFA. A BLACK CAT. A BLUE", language="en"
    )
    assert "SOFA" in shouted.text
    first, again = (client.audio.transcriptions.create(model="tiny.en", file=CAT, temperature=0.9) for _ in range(2))
    assert first.text == again.text


def test_a_transcript_is_streamed(client: openai.OpenAI) -> None:
    *deltas, done = client.audio.transcriptions.create(model="whisper-1", file=CAT, stream=True)
    assert [event.type for event in deltas] == len(deltas) * ["transcript.text.delta"]
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text
    assert "cat" in done.text


async def test_the_asynchronous_client_sends_all_requests_concurrently(service: Service) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120) as client:

        async def streamed() -> list[str]:
            stream = await client.images.generate(prompt="a red apple", stream=True, partial_images=1, extra_body={"seed": 1})
            return [event.type async for event in stream]

        transcript, picture_, event_types, models = await asyncio.gather(
            client.audio.transcriptions.create(model="whisper-1", file=CAT),
            client.images.generate(prompt="a red apple", extra_body={"seed": 1}),
            streamed(),
            client.models.list(),
        )
    assert "cat" in transcript.text
    assert picture_.data is not None
    assert picture(picture_.data[0].b64_json).size == (64, 64)
    assert event_types == ["image_generation.partial_image", "image_generation.completed"]
    assert [model.id for model in models.data] == ["tiny.en", "whisper-1", "small-stable-diffusion", "stable-diffusion"]


def test_models_are_found_by_their_ids(client: openai.OpenAI) -> None:
    assert client.models.retrieve("whisper-1").id == "whisper-1"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-4o")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_refusals_are_the_clients_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="b64_json") as url:
        client.images.generate(prompt="x", response_format="url")
    assert (url.value.code, url.value.param, url.value.type) == ("invalid_parameter", "response_format", "invalid_request_error")
    with pytest.raises(openai.UnprocessableEntityError, match=r"set whisper\.model to a multilingual one"):
        client.audio.translations.create(model="whisper-1", file=CAT)
    with pytest.raises(openai.UnprocessableEntityError) as noise:
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF" + bytes(5000)))
    assert noise.value.code == "audio_undecodable"
    assert noise.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="stable-diffusion", file=CAT)
    with pytest.raises(openai.InternalServerError) as late:
        client.images.generate(**{**LONG, "extra_body": {"steps": 150, "timeout_ms": 1}})
    assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")


def test_the_client_raises_an_error_of_a_stream(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="multilingual") as refused:
        list(client.audio.transcriptions.create(model="whisper-1", file=CAT, stream=True, language="fr"))
    assert refused.value.code == "invalid_parameter"


def test_a_client_that_disconnects_from_an_image_frees_the_model(service: Service, client: openai.OpenAI) -> None:
    steps = Steps(service)
    with client.images.generate(**LONG, stream=True) as stream:
        types = [event.type for event, _ in zip(stream, range(2), strict=False)]
    assert types == 2 * ["image_generation.step"]
    plain = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=2)
    with pytest.raises(openai.APITimeoutError), plain:
        plain.images.generate(**LONG)
    ran, saved = steps.wait_for_total(300)
    assert 2 <= ran < 150 < saved
    assert "cat" in client.audio.transcriptions.create(model="whisper-1", file=CAT).text


def test_a_client_that_disconnects_from_a_transcript_frees_the_model(service: Service, client: openai.OpenAI) -> None:
    id = f"left-{uuid.uuid4().hex}"
    minute = ("minute.wav", media.minute())
    with client.audio.transcriptions.create(
        model="whisper-1", file=minute, stream=True, extra_headers={"X-Request-ID": id}
    ) as stream:
        assert next(iter(stream)).type == "transcript.text.delta"

    def entry() -> dict[str, Any]:
        entries = [json.loads(line) for line in re.findall(r'\{"event": "request".*\}', service.logs("ingress"))]
        return next((entry for entry in entries if entry["request_id"] == id), {})

    service.wait_until(lambda: bool(entry()), "the request's log entry")
    assert (entry()["status"], entry()["cancelled"], entry()["route"]) == (499, True, "/v1/audio/transcriptions")
    service.wait_until(
        lambda: service.metric("ray_serve_replica_processing_queries", deployment="whisper") == 0, "whisper is idle"
    )


def test_the_documents_commands_and_its_program_work_as_printed(service: Service) -> None:
    section = (ROOT / "docs" / "openai.md").read_text().split("## From a program")[1].split("\n## ")[0]
    curls = [line.removeprefix("$ ") for line in section.splitlines() if line.startswith("$ curl")]
    assert len(curls) == 2
    for line in curls:
        command = line.replace("http://127.0.0.1:8000", service.url).split("|")[0]
        output = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, timeout=120, check=True).stdout
        answer = json.loads(output)
        assert "apple" in answer.get("text", "").lower() or picture(answer["data"][0]["b64_json"]).size == (64, 64)
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    found: dict[str, Any] = {"openai": openai}
    with contextlib.chdir(ROOT):
        exec(program.replace("http://127.0.0.1:8000", service.url), found)
    assert picture(found["picture"]).size == (64, 64)
