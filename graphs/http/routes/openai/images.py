"""`POST /v1/images/generations`: OpenAI's Images API over the text-to-image model."""

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

from deployments.errors import DeploymentError, InvalidInput
from deployments.roles.image_formats import FormatName
from deployments.roles.text_to_image import GenerateRequest, Image, Step
from graphs.core.context import RequestContext
from graphs.core.parameters import TimeoutMs
from graphs.core.progress import Emit, Progress, Queued
from graphs.http import problems
from graphs.http.dependencies import AdmittedRequest
from graphs.http.events import sse
from graphs.http.parameters import refusal
from graphs.http.responses import request_headers
from graphs.http.routes.openai import models, openai_router
from graphs.http.schemas import openai
from graphs.http.schemas.openai import GeneratedImage, Images
from graphs.http.services import Services
from graphs.http.sse import EventStream
from graphs.http.upload import receive_json
from graphs.pictures import SEEDS, draw, requests

SIZE = re.compile("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
LARGEST_PX = 99_999
Ignored = Annotated[str | None, Field(max_length=1000)]
"""Accepted for compatibility, without an effect."""


class ImageParameters(BaseModel):
    """OpenAI's parameters, then Sonograph's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=())

    prompt: str = Field(min_length=1, max_length=4000)
    """The text to draw."""
    model: str | None = Field(default=None, max_length=256)
    """An id of `GET /v1/models`; without it the service's own."""
    n: int | None = Field(default=None, ge=1, le=10)
    """Pictures, drawn together, with seeds that follow each other; with `stream` only 1. Each counts as a request in
    `http.max_concurrent_requests`."""
    size: str | None = Field(default=None, pattern=f"^(auto|{SIZE.pattern})$")
    """`auto`, the model's own size, or `WIDTHxHEIGHT`, both multiples of 8 up to the service's setting."""
    response_format: Literal["b64_json"] | None = None
    """Only `b64_json`: the service keeps no picture, so there is no URL."""
    output_format: FormatName | None = None
    """The picture's format, `png` without it."""
    background: Literal["auto", "opaque"] | None = None
    """Every picture is opaque."""
    stream: bool | None = None
    """Answer with server-sent events while the picture is made."""
    partial_images: int | None = Field(default=None, ge=0, le=50)
    """At most so many previews in a stream; OpenAI's own bound is 3."""
    quality: Ignored = None
    """Ignored: the quality depends on `steps`."""
    style: Ignored = None
    """Ignored."""
    moderation: Ignored = None
    """Ignored: the safety checker is the service's setting."""
    user: Ignored = None
    """Ignored."""
    safety_identifier: Ignored = None
    """Ignored."""
    negative_prompt: str | None = Field(default=None, max_length=1000)
    """Things that the picture should not show; needs a `guidance_scale` above 1."""
    seed: int | None = Field(default=None, ge=0, lt=SEEDS)
    """The same request with the same seed gives the same picture; without it one is drawn and returned."""
    steps: int | None = Field(default=None, ge=1, le=150)
    """Denoising steps; without it the service's setting."""
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    """How strictly the picture follows the prompt; without it the service's setting."""
    timeout_ms: TimeoutMs = None
    """Milliseconds from receipt after which the answer is of no use; lowers the service's deadline, as X-Timeout-Ms does."""
    progress: bool | None = None
    """Also send the queue position and each denoising step in a stream, as events that OpenAI's API does not have."""

    @field_validator("response_format", mode="before")
    @classmethod
    def _no_url(cls, value: Any) -> Any:
        if value == "url":
            raise ValueError("response_format cannot be url: the service keeps no picture; ask for b64_json, or leave it out")
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

    def requests(self) -> list[GenerateRequest]:
        """One for each picture, with a random seed where the client names none."""
        size = SIZE.fullmatch(self.size or "")
        width, height = map(int, size.groups()) if size else (None, None)
        first = GenerateRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or "",
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            width=width,
            height=height,
            seed=secrets.randbelow(SEEDS) if self.seed is None else self.seed,
            format=self.format,
            previews=self.partial_images or 0,
        )
        return requests(first, self.n or 1)


def parse(body: bytes, max_side_px: int, setting: str = "diffusion.max_side_px") -> ImageParameters:
    """Parse a JSON body. Raises InvalidInput, which names the parameter and its bound."""
    try:
        parameters = ImageParameters.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error, ImageParameters) from error
    size = SIZE.fullmatch(parameters.size or "")
    for side in map(int, size.groups() if size else ()):
        if side % 8 or side > max_side_px:
            refused = InvalidInput(
                f"size must be auto or WIDTHxHEIGHT, both multiples of 8 and at most {max_side_px} (setting {setting})"
            )
            refused.param = "size"
            raise refused
    return parameters


class ImageEvents:
    """A picture's stream in the form of OpenAI's API: previews, then the picture."""

    def __init__(self, parameters: ImageParameters) -> None:
        self._parameters = parameters
        self._previews = 0

    def started(self) -> Iterator[str]:
        return iter(())

    def progress(self, progress: Progress) -> Iterator[str]:
        if isinstance(progress, Queued) and self._parameters.progress:
            yield _event("image_generation.queued", position=progress.position)
        if isinstance(progress, Step):
            if self._parameters.progress:
                content = {"step": progress.step, "steps": progress.steps, "eta_ms": round(progress.eta_ms)}
                yield _event("image_generation.step", **content)
            if progress.preview is not None:
                shown = progress.preview
                content = _content(shown.encoded, shown.width, shown.height, "jpeg")
                yield _event("image_generation.partial_image", **content, partial_image_index=self._previews)
                self._previews += 1

    def done(self, images: list[tuple[Image, int]]) -> Iterator[str]:
        for image, seed in images:
            content = _content(image.encoded, image.width, image.height, self._parameters.format)
            more = {"usage": None, "seed": seed, "prompt_truncated": image.prompt_truncated}
            yield _event("image_generation.completed", **content, **more)

    def failed(self, error: DeploymentError) -> Iterator[str]:
        yield _event("error", error=problems.openai_content(error))


def _event(type: str, **data: Any) -> str:
    return sse(type, {"type": type, **data})


def _content(encoded: bytes, width: int, height: int, format: str) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(encoded).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{width}x{height}",
        "output_format": format,
        "background": "opaque",
        "quality": "auto",
    }


def _response(images: list[tuple[Image, int]], format: str, context: RequestContext) -> Response:
    first = images[0][0]
    answer = Images(
        created=int(time.time()),
        background="opaque",
        output_format=format,
        size=f"{first.width}x{first.height}",
        data=[
            GeneratedImage(
                b64_json=base64.b64encode(image.encoded).decode("ascii"), seed=seed, prompt_truncated=image.prompt_truncated
            )
            for image, seed in images
        ],
    )
    return JSONResponse(answer.model_dump(), headers=request_headers(context))


def router(services: Services) -> APIRouter:
    routes = openai_router()
    dependencies = services.dependencies

    @routes.post("/images/generations", **openai.images(ImageParameters))
    async def generate(request: Request, admitted: Annotated[AdmittedRequest, Depends(dependencies.admit)]) -> Response:
        body = await admitted.read(request, receive_json)
        admitted.reservation.resize(len(body))
        stage = services.stage("text_to_image")
        parameters = parse(body, getattr(stage.settings, "max_side_px", LARGEST_PX), f"{stage.name}.max_side_px")
        models.require(parameters.model, stage)
        admitted.reservation.count(parameters.n or 1)
        admitted.limit(parameters.timeout_ms)
        stage.require_ready()
        context = admitted.context

        async def work(emit: Emit | None = None) -> list[tuple[Image, int]]:
            context.emit = emit
            each = parameters.requests()
            context.notes["seed"] = each[0].seed
            images = await draw(stage, each, context)
            context.notes["steps"] = sum(image.compute_time.units for image in images)
            return [(image, one.seed) for image, one in zip(images, each, strict=True)]

        if parameters.stream:
            return EventStream(work, ImageEvents(parameters), admitted.entry)
        return _response(await work(), parameters.format, context)

    return routes
