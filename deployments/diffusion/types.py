"""A picture, as it is asked for, on its way, and done."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Prompt:
    text: str
    negative: str = ""
    steps: int = 12
    guidance_scale: float = 3.0
    """Up to 1 there is no guidance, and the negative prompt has no effect (Ho & Salimans 2022; diffusers' convention)."""
    width: int = 0
    """Pixels; 0 is the model's own size."""
    height: int = 0
    seed: int = 0
    """0 to 4294967295. Noise is drawn on the CPU: a seed means the same noise on any device."""
    format: str = "png"
    """png, jpeg or webp."""


@dataclass(frozen=True)
class Progress:
    done: int
    """Denoising steps, from 1."""
    of: int
    eta_ms: float
    """The rest of them, at the pace so far."""
    preview: tuple[bytes, int, int] | None
    """A JPEG, its width and height."""


@dataclass(frozen=True)
class Picture:
    encoded: bytes
    width: int
    height: int
    prompt_truncated: bool
    """The text encoder reads a fixed number of tokens (77 for CLIP); what was beyond is not in the picture."""
    flagged: bool
    """By the safety checker, where it is on."""
    encode_ms: float
    steps: int
    """That were taken: some schedulers take one more than was asked for."""
    denoise_s: float
    """All denoising steps."""
    compute_s: float
    """All of it."""
    rows: float = 1.0
    """Pictures in its calls of the UNet, this one too, on average."""


@dataclass
class Denoising:
    """One picture on its way."""

    width: int
    height: int
    guidance_scale: float
    truncated: bool
    scheduler: Any
    """Its own copy: a scheduler keeps the state of one picture."""
    step_kwargs: dict[str, Any]
    latents: torch.Tensor
    """[1, channels, height / scale, width / scale]"""
    embeddings: torch.Tensor
    """[2, tokens, channels] with guidance, the negative prompt's first; [1, tokens, channels] without."""
    added: dict[str, torch.Tensor] | None
    """SDXL's pooled embeddings and sizes; None for SD."""
    done: int = 0
    """Denoising steps."""
    estimate: torch.Tensor | None = None
    """The finished latents as the last step foresaw them."""

    @property
    def of(self) -> int:
        """Denoising steps in all: some schedulers (PNDM) take more than were asked for."""
        return len(self.scheduler.timesteps)

    @property
    def kind(self) -> tuple[torch.Size, torch.Size]:
        """What can share a call of the UNet has the same."""
        return self.latents.shape[1:], self.embeddings.shape[1:]

    @property
    def guided(self) -> bool:
        return self.embeddings.shape[0] == 2
