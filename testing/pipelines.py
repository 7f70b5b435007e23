"""diffusers' own loop, to compare with."""

import io
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from deployments.diffusion.types import Picture, Prompt


class Stock:
    """diffusers' own pipeline, its tensors laid out as the engine's: another layout rounds otherwise."""

    def __init__(self, folder: Path) -> None:
        self._pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self._pipeline.set_progress_bar_config(disable=True)
        for part in (self._pipeline.unet, self._pipeline.vae):
            part.to(memory_format=torch.channels_last)

    def draw(self, prompt: Prompt) -> NDArray[Any]:
        drawn = self._pipeline(
            prompt.text,
            negative_prompt=prompt.negative,
            num_inference_steps=prompt.steps,
            guidance_scale=prompt.guidance_scale,
            width=prompt.width or None,
            height=prompt.height or None,
            generator=torch.Generator("cpu").manual_seed(prompt.seed),
        )
        return np.asarray(drawn.images[0])


def pixels(picture: Picture) -> NDArray[Any]:
    """uint8 [height, width, 3]."""
    return np.asarray(PIL.Image.open(io.BytesIO(picture.encoded)))
