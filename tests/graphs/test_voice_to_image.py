"""The graphs as plain classes, over stages that answer at once."""

from typing import Any

import numpy as np
import pytest

from deployments.errors import InvalidInput, ModelUnavailable
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.voice_to_image import DrawParameters, VoiceToImage
from graphs.voice_to_text import ListenParameters, VoiceToText
from testing.fakes import FakeService, image, transcript

AUDIO = np.zeros(16_000, np.int16)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def context(emit: Any = None) -> RequestContext:
    return RequestContext("id-1", TimeLeft(60), emit)


def voice_to_image(service: FakeService) -> VoiceToImage:
    graph, _ = service.graphs()
    assert isinstance(graph, VoiceToImage)
    return graph


async def test_the_transcript_is_drawn_with_the_requests_options(service: FakeService) -> None:
    parameters = DrawParameters(
        language=" de ", task="translate", prompt_prefix="a drawing of", negative_prompt="rain", steps=4, width=64, height=32, seed=9,
        guidance_scale=2.5, output_format="webp", previews=2,
    )  # fmt: skip
    one = context()
    drawing = await voice_to_image(service).run(AUDIO, parameters, one)
    ((transcription, _),) = service.whisper.calls
    assert (transcription.language, transcription.task, transcription.prompt, transcription.temperature) == (
        "de",
        "translate",
        "",
        0.0,
    )
    assert isinstance(transcription, TranscribeRequest)
    assert transcription.audio is AUDIO
    ((generation, _),) = service.diffusion.calls
    assert [generation] == drawing.requests
    assert (generation.prompt, generation.negative_prompt, generation.steps, generation.guidance_scale) == (
        "a drawing of a red apple",
        "rain",
        4,
        2.5,
    )
    assert (generation.width, generation.height, generation.seed, generation.format, generation.previews) == (
        64,
        32,
        9,
        "webp",
        2,
    )
    assert drawing.transcript == transcript()
    assert drawing.images == [image()]
    assert one.notes == {"transcript": "a red apple", "seed": 9, "n": 1, "steps": 12}
    assert one.timings_ms == {"whisper": 20.0, "diffusion": 30.0, "encode": 2.0}
    assert one.models == {"whisper": "tiny.en", "diffusion": "tiny"}


async def test_without_a_seed_a_random_one_is_used_and_returned(service: FakeService) -> None:
    drawings = [await voice_to_image(service).run(AUDIO, DrawParameters(), context()) for _ in range(2)]
    seeds = {drawing.requests[0].seed for drawing in drawings}
    assert len(seeds) == 2
    assert all(0 <= seed < 2**32 for seed in seeds)


async def test_a_streaming_client_gets_the_transcript_before_the_drawing_starts(service: FakeService) -> None:
    seen: list[tuple[Any, int]] = []
    await voice_to_image(service).run(
        AUDIO, DrawParameters(), context(lambda one: seen.append((one, len(service.diffusion.calls))))
    )
    assert seen == [(transcript(), 0)]


def test_a_request_is_refused_before_its_first_stage_starts_while_a_later_one_does_not_serve(service: FakeService) -> None:
    service.diffusion.unready = ModelUnavailable("diffusion is starting")
    with pytest.raises(ModelUnavailable, match="diffusion is starting"):
        voice_to_image(service).check(DrawParameters())
    assert service.whisper.calls == []
    _, voice_to_text = service.graphs()
    voice_to_text.check(ListenParameters())


@pytest.mark.parametrize("side", ["width", "height"])
def test_a_side_above_the_models_setting_is_refused_with_the_settings_name(service: FakeService, side: str) -> None:
    voice_to_image(service).check(DrawParameters.model_validate({side: 256}))
    with pytest.raises(InvalidInput, match=rf"^{side} must be at most 256 \(setting diffusion.max_side_px\)$"):
        voice_to_image(service).check(DrawParameters.model_validate({side: 264}))


async def test_the_graph_without_images_answers_with_the_transcript(service: FakeService) -> None:
    _, graph = service.graphs()
    assert isinstance(graph, VoiceToText)
    one = context()
    parameters = ListenParameters(language="en")
    result = await graph.run(AUDIO, parameters, one)
    assert result == transcript()
    content = graph.to_answer(result, parameters, one).content()
    assert content == {
        "request_id": "id-1",
        "transcript": "a red apple",
        "language": "en",
        "segments": [{"start": 0.0, "end": 1.5, "text": "a red apple", "avg_logprob": -0.25, "no_speech_prob": 0.125}],
        "timings_ms": {"whisper": 20.0},
        "models": {"whisper": "tiny.en"},
    }
    assert service.diffusion.calls == []


async def test_a_graph_chooses_further_policies_for_its_stages() -> None:
    class Recorded(VoiceToText):
        policies = {"transcribe": ("a policy",)}  # type: ignore[dict-item]

    class Extended:
        def with_policies(self, *policies: object) -> tuple[object, ...]:
            return policies

    stage: Any = Extended()
    assert Recorded(transcribe=stage).transcribe == ("a policy",)  # type: ignore[comparison-overlap]
    assert VoiceToText(transcribe=stage).transcribe is stage
