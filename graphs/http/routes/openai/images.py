"""`POST /v1/images/generations`: OpenAI's Images API over the diffusion room."""

import base64
import re
import secrets
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.diffusion import GenerateOptions, Image, Step
from deployments.errors import DeploymentError, InvalidInput
from graphs.core.context import Given
from graphs.core.graph import Graph
from graphs.http import problems
from graphs.http.deadline import LARGEST_TIMEOUT_MS
from graphs.http.dependencies import Reception, Visit
from graphs.http.events import Event, Queued, Tell, sse
from graphs.http.parameters import refusal
from graphs.http.responses import server_timing
from graphs.http.routes.openai.models import Models
from graphs.http.schemas import openai
from graphs.http.sse import EventStream
from graphs.http.upload import receive_json

SIZE = re.compile("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
SEEDS = 2**32
Ignored = Annotated[str | None, Field(max_length=1000)]
"""Taken for compatibility; nothing here could obey it."""


class ImageParameters(BaseModel):
    """What may be asked for: OpenAI's parameters, and after these Sonograph's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=())

    prompt: str = Field(min_length=1, max_length=4000)
    """What to draw."""
    model: str | None = Field(default=None, max_length=256)
    """An id of `GET /v1/models`; without it the diffusion room's model."""
    n: int | None = Field(default=None, ge=1, le=10)
    """Pictures, one after the other, with seeds that follow each other; with `stream` only 1."""
    size: str | None = Field(default=None, pattern=f"^(auto|{SIZE.pattern})$")
    """`auto`, the model's own size, or `WIDTHxHEIGHT`, both multiples of 8 up to the service's setting."""
    response_format: Literal["b64_json"] | None = None
    """Only `b64_json`: no picture is kept that a URL could lead to."""
    output_format: Literal["png", "jpeg", "webp"] | None = None
    """The picture's format, `png` without it."""
    background: Literal["auto", "opaque"] | None = None
    """Every picture is opaque."""
    stream: bool | None = None
    """Answer with server-sent events while the picture is made."""
    partial_images: int | None = Field(default=None, ge=0, le=50)
    """At most so many previews in a stream; OpenAI's own bound is 3."""
    quality: Ignored = None
    """Ignored: `steps` is what quality depends on."""
    style: Ignored = None
    """Ignored."""
    moderation: Ignored = None
    """Ignored: the safety checker is the service's setting."""
    user: Ignored = None
    """Ignored."""
    safety_identifier: Ignored = None
    """Ignored."""
    negative_prompt: str | None = Field(default=None, max_length=1000)
    """What the picture should not show; needs a `guidance_scale` above 1."""
    seed: int | None = Field(default=None, ge=0, lt=SEEDS)
    """The same request with the same seed gives the same picture; without it one is drawn and returned."""
    steps: int | None = Field(default=None, ge=1, le=150)
    """Denoising steps; without it the service's setting."""
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    """How strictly the picture follows the prompt; without it the service's setting."""
    timeout_ms: int | None = Field(default=None, ge=1, le=LARGEST_TIMEOUT_MS)
    """Milliseconds from receipt after which the answer is of no use; lowers the service's deadline, as X-Timeout-Ms does."""
    progress: bool | None = None
    """Also tell the place in the queue and each denoising step in a stream, by events that OpenAI's API does not have."""

    @field_validator("response_format", mode="before")
    @classmethod
    def _no_url(cls, value: Any) -> Any:
        if value == "url":
            raise ValueError(
                "response_format cannot be url: no picture is kept that a URL could lead to; ask for b64_json, or leave it out"
            )
        return value

    @field_validator("background", mode="before")
    @classmethod
    def _opaque(cls, value: Any) -> Any:
        if value == "transparent":
            raise ValueError(
                "background cannot be transparent: this model draws opaque pictures; ask for opaque, or leave it out"
            )
        return value

    @model_validator(mode="after")
    def _one_in_a_stream(self) -> "ImageParameters":
        if self.stream and (self.n or 1) > 1:
            raise ValueError("n must be 1 with stream: ask for several pictures without it, or for one after the other")
        return self

    @property
    def format(self) -> str:
        return self.output_format or "png"

    def options(self) -> list[GenerateOptions]:
        """One for each picture. A seed is drawn here where none was given."""
        seed = secrets.randbelow(SEEDS) if self.seed is None else self.seed
        size = SIZE.fullmatch(self.size or "")
        width, height = map(int, size.groups()) if size else (None, None)
        return [
            GenerateOptions(
                negative_prompt=self.negative_prompt or "",
                steps=self.steps,
                guidance_scale=self.guidance_scale,
                width=width,
                height=height,
                seed=(seed + number) % SEEDS,
                format=self.format,
            )
            for number in range(self.n or 1)
        ]


def parse(body: bytes, max_side_px: int) -> ImageParameters:
    """Raises InvalidInput that names parameter and bound."""
    try:
        parameters = ImageParameters.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error, ImageParameters) from error
    size = SIZE.fullmatch(parameters.size or "")
    for side in map(int, size.groups() if size else ()):
        if side % 8 or side > max_side_px:
            refused = InvalidInput(
                f"size must be auto or WIDTHxHEIGHT, both multiples of 8 and at most {max_side_px} "
                "(this service's setting diffusion.max_side_px)"
            )
            refused.param = "size"
            raise refused
    return parameters


class ImageEvents:
    """A picture's stream as OpenAI's API has it: previews, then the picture."""

    def __init__(self, parameters: ImageParameters, request_id: str) -> None:
        self._parameters = parameters
        self._request_id = request_id
        self._previews = 0

    def begun(self) -> Iterator[str]:
        return iter(())

    def told(self, event: Event) -> Iterator[str]:
        if isinstance(event, Queued) and self._parameters.progress:
            yield _event("image_generation.queued", position=event.position)
        if isinstance(event, Step):
            if self._parameters.progress:
                yield _event("image_generation.step", step=event.done, steps=event.of, eta_ms=round(event.eta_ms))
            if event.preview is not None:
                shown = event.preview
                told = _told(shown.encoded, shown.width, shown.height, "jpeg")
                yield _event("image_generation.partial_image", **told, partial_image_index=self._previews)
                self._previews += 1

    def done(self, images: list[tuple[Image, int]]) -> Iterator[str]:
        for image, seed in images:
            told = _told(image.encoded, image.width, image.height, self._parameters.format)
            more = {"usage": None, "seed": seed, "prompt_truncated": image.prompt_truncated}
            yield _event("image_generation.completed", **told, **more)

    def failed(self, error: DeploymentError) -> Iterator[str]:
        yield _event("error", error=problems.openai_content(error))


def _event(type: str, **data: Any) -> str:
    return sse(type, {"type": type, **data})


def _told(encoded: bytes, width: int, height: int, format: str) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(encoded).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{width}x{height}",
        "output_format": format,
        "background": "opaque",
        "quality": "auto",
    }


def _answer(images: list[tuple[Image, int]], format: str, timings_ms: dict[str, float]) -> Response:
    first = images[0][0]
    content = {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": format,
        "size": f"{first.width}x{first.height}",
        "data": [
            {
                "b64_json": base64.b64encode(image.encoded).decode("ascii"),
                "seed": seed,
                "prompt_truncated": image.prompt_truncated,
            }
            for image, seed in images
        ],
    }
    return JSONResponse(content, headers={"Server-Timing": server_timing(timings_ms)})


def install(routes: APIRouter, graph: Graph, reception: Reception, models: Models, max_side_px: int) -> None:
    @routes.post("/images/generations", **openai.images(ImageParameters))
    async def generate(request: Request, visit: Annotated[Visit, Depends(reception.admit)]) -> Response:
        body = await visit.read(lambda: receive_json(request))
        visit.ticket.resize(len(body))
        parameters = parse(body, max_side_px)
        models.require(parameters.model, "diffusion")
        given = visit.given(parameters.timeout_ms)

        async def drawing(tell: Tell | None = None) -> list[tuple[Image, int]]:
            drawn = []
            for options in parameters.options():
                visit.line.seed = options.seed if visit.line.seed is None else visit.line.seed
                previews = (parameters.partial_images or 0) if tell else 0
                told = Given(given.time_left, given.line, tell)
                drawn.append((await graph.generate(parameters.prompt, options, previews, told), options.seed))
            return drawn

        if parameters.stream:
            return EventStream(drawing, ImageEvents(parameters, visit.line.request_id), visit.line)
        return _answer(await drawing(), parameters.format, visit.line.timings_ms)
