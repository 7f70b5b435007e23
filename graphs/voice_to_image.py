"""The graph that draws what a recording says: speech to text, then text to image."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.errors import InvalidInput
from deployments.roles.image_formats import IMAGE_FORMATS, FormatName
from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript
from deployments.roles.text_to_image import GenerateRequest, Image
from graphs.core.context import RequestContext
from graphs.core.graph import Graph
from graphs.core.parameters import GraphAnswer, GraphParameters, common
from graphs.core.stage import Stage
from graphs.ingress import app as app  # `serve run graphs.voice_to_image:app`
from graphs.pictures import SEEDS, ImageAnswer, SeededImage, content, draw, requests

Side = Annotated[int | None, Field(ge=8, multiple_of=8)]


class DrawParameters(GraphParameters):
    language: str = Field(default="", max_length=32)
    """The language that is spoken: a code such as `de`, or its English name; without it the model detects it."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """`transcribe` draws the words as they are; `translate` draws their English translation."""
    prompt_prefix: str = Field(default="", max_length=1000)
    """Words before the transcript in the prompt, such as `a watercolour of`."""
    negative_prompt: str = Field(default="", max_length=1000)
    """Things that the picture should not show."""
    steps: int | None = Field(default=None, ge=1, le=150)
    """Denoising steps; without it the service's setting."""
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    """How strictly the picture follows the words; without it the service's setting."""
    width: Side = None
    """Pixels, a multiple of 8 up to the service's setting; without it the model's own size."""
    height: Side = None
    """Pixels, a multiple of 8 up to the service's setting; without it the model's own size."""
    seed: int | None = Field(default=None, ge=0, le=4_294_967_295)
    """The same recording, parameters and seed give the same picture; without it a random one is used and returned."""
    n: int = Field(default=1, ge=1, le=8)
    """Pictures, drawn together, with seeds that follow each other. Above 1 the answer is JSON with `images`, or events with `index`: an
    image is refused; and each picture counts as a request in `http.max_concurrent_requests`."""
    output_format: FormatName | None = None
    """The picture's format; without it the Accept header decides."""
    previews: int = Field(default=0, ge=0, le=50)
    """At most so many previews of the picture, in an event stream."""


class DrawAnswer(GraphAnswer):
    transcript: str
    language: str
    """ISO 639-1 code."""
    segments: list[Segment]
    prompt: str
    """The text that was drawn: the prefix, and the transcript."""
    prompt_truncated: bool
    """Whether the prompt was longer than the model's text encoder reads; the rest was not drawn."""
    seed: int
    """The first picture's."""
    image: ImageAnswer | None = None
    """The picture; absent where `n` is above 1."""
    images: list[SeededImage] | None = None
    """The pictures, in the order of their seeds; absent where `n` is 1."""


@dataclass(frozen=True)
class Drawing:
    transcript: Transcript
    requests: list[GenerateRequest]
    images: list[Image]
    """Of each request."""


class VoiceToImage(Graph[DrawParameters, Drawing]):
    path = "/graph"
    summary = "Draw what a recording says"
    parameters = DrawParameters
    answer = DrawAnswer
    formats = {one.media_type: one.name for one in IMAGE_FORMATS.values()}
    headers = {
        "X-Transcript": "The transcript: UTF-8, percent-encoded, at most 1 KiB.",
        "X-Seed": "The seed that was used.",
    }
    events = ("image",)

    transcribe = Stage[TranscribeRequest, Transcript].of("speech_to_text")
    generate = Stage[GenerateRequest, Image].of("text_to_image")

    def check(self, parameters: DrawParameters) -> None:
        check_size(self.generate, width=parameters.width, height=parameters.height)
        super().check(parameters)

    async def run(self, audio: NDArray[np.int16], parameters: DrawParameters, context: RequestContext) -> Drawing:
        transcript = await self.transcribe(TranscribeRequest(audio, parameters.language.strip(), parameters.task), context)
        context.notes["transcript"] = transcript.text
        context.report(transcript)
        first = GenerateRequest(
            prompt=f"{parameters.prompt_prefix} {transcript.text}".strip(),
            negative_prompt=parameters.negative_prompt,
            steps=parameters.steps,
            guidance_scale=parameters.guidance_scale,
            width=parameters.width,
            height=parameters.height,
            seed=secrets.randbelow(SEEDS) if parameters.seed is None else parameters.seed,
            format=parameters.output_format or "png",
            previews=parameters.previews,
        )
        context.notes["seed"] = first.seed
        each = requests(first, parameters.n)
        return Drawing(transcript, each, await draw(self._draw, each, context))

    async def _draw(self, request: GenerateRequest, context: RequestContext) -> Image:
        """One picture."""
        image = await self.generate(request, context)
        context.notes["steps"] = context.notes.get("steps", 0) + image.compute_time.units
        return image

    def to_answer(self, result: Drawing, parameters: DrawParameters, context: RequestContext) -> DrawAnswer:
        transcript = result.transcript
        first, pictures = result.requests[0], list(zip(result.requests, result.images, strict=True))
        several = [SeededImage(**content(*picture), seed=picture[0].seed) for picture in pictures] if len(pictures) > 1 else None
        return DrawAnswer(
            **common(context),
            transcript=transcript.text,
            language=transcript.language,
            segments=list(transcript.segments),
            prompt=first.prompt,
            prompt_truncated=result.images[0].prompt_truncated,
            seed=first.seed,
            image=None if several else ImageAnswer(**content(*pictures[0])),
            images=several,
        )

    def encoded(self, result: Drawing) -> bytes:
        return result.images[0].encoded

    def response_headers(self, result: Drawing) -> dict[str, str]:
        return {"X-Transcript": result.transcript.text, "X-Seed": str(result.requests[0].seed)}

    def result_events(self, answer: GraphAnswer) -> Iterator[tuple[str, dict[str, Any]]]:
        earlier = {"request_id", "timings_ms", "transcript", "language", "segments"}
        if getattr(answer, "images", None) is None:  # of several, each was sent when it was finished
            yield "image", answer.model_dump(exclude=earlier, exclude_none=True)


def check_size(stage: Stage[GenerateRequest, Image], **sides_px: int | None) -> None:
    """Raise InvalidInput for a side above the setting of the stage's model."""
    largest_px: int | None = getattr(stage.settings, "max_side_px", None)
    for name, side_px in sides_px.items():
        if largest_px is not None and (side_px or 0) > largest_px:
            raise InvalidInput(f"{name} must be at most {largest_px} (setting {stage.name}.max_side_px)")
