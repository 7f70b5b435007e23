"""The state of an image between its denoising steps, and the engine's results. The engine's side of Triton alone imports it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from deployments.roles.text_to_image import Image


class Decoded(NamedTuple):
    pixels: NDArray[Any]
    """uint8 [height, width, 3], RGB."""
    flagged: bool
    """Whether the safety checker flagged the image and blackened its pixels."""


class Generated(NamedTuple):
    image: Image
    flagged: bool
    """Whether the safety checker flagged the image and blackened its pixels."""
    began_ns: int = 0
    """Unix time at which its computation began in a batch, after its wait for a place."""


@dataclass
class Denoising:
    """One image between its denoising steps."""

    width: int
    height: int
    guidance_scale: float
    prompt_truncated: bool
    scheduler: Any
    """A copy for this image alone: diffusers' scheduler keeps the state of one image. Its timesteps are on the host."""
    step_kwargs: dict[str, Any]
    """Further arguments of the scheduler's step."""
    latents: torch.Tensor
    """[1, channels, height / scale, width / scale]"""
    timesteps: torch.Tensor
    """The scheduler's, on the UNet's device."""
    embeddings: torch.Tensor
    """[2, tokens, channels] with guidance, the negative prompt's first; [1, tokens, channels] without."""
    added_conditions: dict[str, torch.Tensor] | None
    """SDXL's pooled embeddings and sizes; None for SD."""
    guidance_embedding: torch.Tensor | None = None
    """[1, width] of a model that takes the guidance as an input; None for any other."""
    step: int = 0
    """Denoising steps done."""
    predicted_latents: torch.Tensor | None = None
    """The finished latents as the last step predicts them."""

    @property
    def steps(self) -> int:
        """Denoising steps in all: some schedulers (PNDM) take more than the request names."""
        return len(self.scheduler.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The next step's, on the host."""
        timestep: torch.Tensor = self.scheduler.timesteps[self.step]
        return timestep

    @property
    def batch_key(self) -> tuple[torch.Size, torch.Size]:
        """Equal for images that can share a call of the UNet."""
        return self.latents.shape[1:], self.embeddings.shape[1:]

    @property
    def guided(self) -> bool:
        return self.embeddings.shape[0] == 2
