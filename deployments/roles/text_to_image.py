"""Text to image: the request and the result of every model of this role, the same on both sides of Triton. Loads neither Ray nor torch."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from deployments.compute_time import Answer


@dataclass(frozen=True)
class GenerateRequest:
    """A prompt and its options. The model's settings replace a None."""

    prompt: str
    negative_prompt: str = ""
    steps: int | None = None
    """Denoising steps, 1 to 150; None is the setting's number."""
    guidance_scale: float | None = None
    """Weight of the prompt, 0 to 30; None is the setting's. Up to 1 there is no guidance, and the negative prompt has no effect
    (Ho & Salimans 2022; diffusers' convention)."""
    width: int | None = None
    """Pixels; None is the model's own width."""
    height: int | None = None
    """Pixels; None is the model's own height."""
    seed: int = 0
    """0 to 4294967295. The noise is sampled on the CPU: a seed gives the same noise on any device."""
    format: str = "png"
    """A name in IMAGE_FORMATS."""
    previews: int = 0
    """Most steps of a stream that carry a preview."""


@dataclass(frozen=True)
class Preview:
    """A small JPEG of the image as a denoising step predicts it."""

    encoded: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Step:
    """Progress: one denoising step is done."""

    EVENTS: ClassVar[tuple[str, ...]] = ("image.step", "image.preview")
    step: int
    """Steps done, from 1."""
    steps: int
    """Steps in all; some schedulers take one more than the request names."""
    eta_ms: float
    """Expected time of the remaining steps, by the average of those done."""
    preview: Preview | None = None

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events: type and data."""
        yield "image.step", {"step": self.step, "steps": self.steps, "eta_ms": round(self.eta_ms)}
        if self.preview is not None:
            content = base64.b64encode(self.preview.encoded).decode("ascii")
            size = {"width": self.preview.width, "height": self.preview.height}
            yield "image.preview", {"step": self.step, "media_type": "image/jpeg", "base64": content, **size}


@dataclass(frozen=True)
class Image(Answer):
    """An encoded image, and how it was made. A model of the role image_to_image takes one and returns one, in the same format.

    The units of its compute time are the denoising steps that ran.
    """

    encoded: bytes
    width: int
    height: int
    prompt_truncated: bool
    """The text encoder reads a fixed number of tokens (77 for CLIP) and ignores the rest of the prompt."""
    encode_ms: float
    """Time of the encoding in the image format, a part of the compute time."""

    @property
    def breakdown_ms(self) -> dict[str, float]:
        """Parts of the stage's time that `timings_ms` shows apart."""
        return {"encode": self.encode_ms}
