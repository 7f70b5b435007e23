"""A graph with a soft second stage: its failure degrades the answer, which names it, and readiness does not depend on it."""

import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.errors import ModelUnavailable
from deployments.roles.image_formats import IMAGE_FORMATS, FormatName
from deployments.roles.speech_to_text import TranscribeRequest, Transcript
from deployments.roles.text_to_image import GenerateRequest, Image
from graphs.core.context import RequestContext
from graphs.core.graph import Graph
from graphs.core.parameters import GraphAnswer, GraphParameters, common
from graphs.core.stage import Stage
from graphs.voice_to_image import VoiceToImage
from testing.fakes import FakeService, deployment_status, image, serve_status


class IllustratedAnswer(GraphAnswer):
    transcript: str
    illustrated: bool


class Illustrated(Graph[GraphParameters, tuple[Transcript, Image | None]]):
    """Transcript with an image, if the model can generate one."""

    path = "/illustrate"
    summary = "Transcribe, and draw where that works"
    parameters = GraphParameters
    answer = IllustratedAnswer
    events = ("illustrated",)

    transcribe = Stage[TranscribeRequest, Transcript].of("speech_to_text")
    generate = Stage[GenerateRequest, Image | None].soft("text_to_image")

    async def run(
        self, audio: NDArray[np.int16], parameters: GraphParameters, context: RequestContext
    ) -> tuple[Transcript, Image | None]:
        transcript = await self.transcribe(TranscribeRequest(audio), context)
        picture = await self.generate(GenerateRequest(transcript.text), context, otherwise=None)
        return transcript, picture

    def to_answer(self, result: Any, parameters: GraphParameters, context: RequestContext) -> IllustratedAnswer:
        transcript, picture = result
        return IllustratedAnswer(**common(context), transcript=transcript.text, illustrated=picture is not None)


@pytest.fixture
def service() -> FakeService:
    return FakeService(mounted=(Illustrated,))


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service.app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def post(client: httpx.AsyncClient, accept: str = "application/json") -> httpx.Response:
    return await client.post("/illustrate", files={"file": b"sound"}, headers={"accept": accept})


async def test_an_answer_with_all_its_stages_is_not_degraded(client: httpx.AsyncClient) -> None:
    answer = await post(client)
    assert (answer.json()["illustrated"], answer.json().get("degraded")) == (True, None)
    assert "x-degraded" not in answer.headers


async def test_a_soft_stage_that_fails_is_named_in_the_answer_its_header_and_its_events(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    service.diffusion.result = ModelUnavailable("diffusion is starting")
    answer = await post(client)
    assert answer.status_code == 200
    assert (answer.json()["transcript"], answer.json()["illustrated"]) == ("a red apple", False)
    assert answer.json()["degraded"] == {"diffusion": "model_unavailable: diffusion is starting"}
    assert answer.headers["x-degraded"] == "diffusion"
    stream = await post(client, "text/event-stream")
    done = json.loads(stream.text.rstrip().rpartition("data: ")[2])
    assert (done["type"], done["degraded"]) == ("done", {"diffusion": "model_unavailable: diffusion is starting"})


async def test_a_result_is_an_event_with_the_answers_own_fields(client: httpx.AsyncClient) -> None:
    stream = await post(client, "text/event-stream")
    (result,) = (json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith('data: {"type":"illustrated"'))
    assert {key: result[key] for key in list(result)[3:]} == {"transcript": "a red apple", "illustrated": True}


async def test_a_request_starts_and_the_service_is_ready_without_a_soft_stage(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    service.diffusion.unready = ModelUnavailable("diffusion is starting")
    service.status = serve_status(whisper=deployment_status(), diffusion=deployment_status("UPDATING", STARTING=1))
    assert (await post(client)).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["models"]) == (200, {"whisper": "ready", "diffusion": "starting"})
    service.status = serve_status(whisper=deployment_status("UPDATING", STARTING=1), diffusion=deployment_status())
    service.whisper.unready = ModelUnavailable("whisper is starting")
    assert (await post(client)).status_code == 503
    assert service.recordings == [b"sound"], "the second recording was not decoded"


def test_the_names_of_the_formats_are_those_of_their_table() -> None:
    assert list(IMAGE_FORMATS) == list(get_args(FormatName))
    assert image().encoded


async def test_a_model_that_is_soft_in_one_graph_and_required_by_another_counts_for_readiness(service: FakeService) -> None:
    service.mounted = (Illustrated, VoiceToImage)
    service.status = serve_status(whisper=deployment_status(), diffusion=deployment_status("UPDATING", STARTING=1))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["detail"]) == (503, "diffusion is starting")


def test_the_document_names_the_header_of_a_degraded_answer_where_a_graph_has_soft_stages(service: FakeService) -> None:
    service.mounted = (Illustrated, VoiceToImage)
    paths = service.app().openapi()["paths"]
    headers = {path: set(paths[path]["post"]["responses"]["200"]["headers"]) for path in ("/illustrate", "/graph")}
    assert "X-Degraded" in headers["/illustrate"]
    assert "X-Degraded" not in headers["/graph"]
