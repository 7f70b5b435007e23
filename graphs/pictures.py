"""Several pictures of one request, drawn together: each is a call of the stage, and the model's batch shares their denoising steps."""

import base64
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel

from deployments.roles.image_formats import IMAGE_FORMATS
from deployments.roles.text_to_image import GenerateRequest, Image
from graphs.core.context import RequestContext, fan_out
from graphs.core.progress import Progress

SEEDS = 2**32
"""The number of seeds: 0 follows the last one."""
Generate = Callable[[GenerateRequest, RequestContext], Awaitable[Image]]
"""The stage, or more than one."""


class ImageAnswer(BaseModel):
    media_type: str
    base64: str
    width: int
    height: int


class SeededImage(ImageAnswer):
    seed: int


@dataclass(frozen=True)
class OfPicture:
    """Progress of one of several pictures; its events carry the picture's index."""

    EVENTS: ClassVar[tuple[str, ...]] = ()

    index: int
    """From 0, in the order of the seeds."""
    progress: Progress

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for type, data in self.progress.events():
            yield type, {"index": self.index, **data}


@dataclass(frozen=True)
class Finished:
    """Progress: one of several pictures is finished. Its event has what that of a picture alone has."""

    EVENTS: ClassVar[tuple[str, ...]] = ("image",)

    request: GenerateRequest
    image: Image
    models: dict[str, str]

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield (
            "image",
            {
                "models": self.models,
                "prompt": self.request.prompt,
                "prompt_truncated": self.image.prompt_truncated,
                "seed": self.request.seed,
                "image": content(self.request, self.image),
            },
        )


def requests(first: GenerateRequest, n: int) -> list[GenerateRequest]:
    """One for each picture, with seeds that follow each other."""
    return [replace(first, seed=(first.seed + index) % SEEDS) for index in range(n)]


async def draw(generate: Generate, requests: Sequence[GenerateRequest], context: RequestContext) -> list[Image]:
    """Draw all at once, each in a place of its own in the stage's queue; a client that follows gets each when it is finished.

    The first that fails cancels the others, and its error is raised. Cancelling this cancels all, down to the model.
    The stage's time is that of the picture that took longest.
    """
    context.notes["n"] = len(requests)
    if len(requests) == 1:
        return [await generate(requests[0], context)]

    emit = context.emit

    async def one(index: int, branch: RequestContext) -> Image:
        own = replace(branch, emit=None if emit is None else lambda progress: emit(OfPicture(index, progress)))
        image = await generate(requests[index], own)
        own.report(Finished(requests[index], image, dict(context.models)))
        return image

    images = await fan_out(context, {str(index): partial(one, index) for index in range(len(requests))})
    return list(images.values())


def content(request: GenerateRequest, image: Image) -> dict[str, Any]:
    """The fields of ImageAnswer."""
    return {
        "media_type": IMAGE_FORMATS[request.format].media_type,
        "base64": base64.b64encode(image.encoded).decode("ascii"),
        "width": image.width,
        "height": image.height,
    }
