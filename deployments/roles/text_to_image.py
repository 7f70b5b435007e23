"""Text to image: the request and the result of every model of this role. Runs on both sides of Triton: no Ray, torch or pydantic."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from deployments.compute_time import ComputeTime


@dataclass(frozen=True)
class ImageFormat:
    name: str
    media_type: str
    save_options: dict[str, Any]
    """Pillow's, for `Image.save`."""


IMAGE_FORMATS = {
    one.name: one
    for one in (
        ImageFormat("png", "image/png", {}),
        ImageFormat("jpeg", "image/jpeg", {"quality": 90}),
        # WebP's fastest method: 3 times the speed of its default for a fifth more bytes.
        ImageFormat("webp", "image/webp", {"quality": 80, "method": 0}),
    )
}
"""By name; the first is the default. Model, edge, documents and command line read this table."""


@dataclass(frozen=True)
class GenerateRequest:
    prompt: str
    negative_prompt: str = ""
    steps: int | None = None
    """Denoising steps, 1 to 150; None takes the setting."""
    guidance_scale: float | None = None
    """Weight of the prompt, 0 to 30; None takes the setting."""
    width: int | None = None
    """Pixels; None is the model's own size."""
    height: int | None = None
    seed: int = 0
    """0 to 4294967295."""
    format: str = "png"
    """A name of IMAGE_FORMATS."""
    previews: int = 0
    """Most steps that carry a preview; they cost a decoding each."""


@dataclass(frozen=True)
class Preview:
    """A small JPEG of the picture as a denoising step predicts it."""

    encoded: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Step:
    EVENTS: ClassVar[tuple[str, ...]] = ("image.step", "image.preview")

    step: int
    """Denoising steps that are done, from 1."""
    steps: int
    """Denoising steps in all."""
    eta_ms: float
    """Time of the steps that remain, at the rate so far."""
    preview: Preview | None = None

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "image.step", {"step": self.step, "steps": self.steps, "eta_ms": round(self.eta_ms)}
        if self.preview is not None:
            content = base64.b64encode(self.preview.encoded).decode("ascii")
            size = {"width": self.preview.width, "height": self.preview.height}
            yield "image.preview", {"step": self.step, "media_type": "image/jpeg", "base64": content, **size}


@dataclass(frozen=True)
class Image:
    encoded: bytes
    width: int
    height: int
    prompt_truncated: bool
    """Whether the prompt was longer than the text encoder reads (77 tokens for CLIP, 32 for the model that ships)."""
    encode_ms: float
    """Part of the time that went into the image format."""
    model: str = ""
    compute_time: ComputeTime = field(default_factory=ComputeTime)

    @property
    def breakdown_ms(self) -> dict[str, float]:
        """Parts of the stage's time that the answer's `timings_ms` shows apart."""
        return {"encode": self.encode_ms}
