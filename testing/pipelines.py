"""diffusers' own pipelines, as references for the engine."""

import io
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from deployments.diffusion.settings import DiffusionSettings
from deployments.roles.text_to_image import GenerateRequest, Image


def request(prompt: str, **options: Any) -> GenerateRequest:
    """Return a request as it reaches the engine, with the default settings' steps and guidance scale unless `options` name others."""
    return DiffusionSettings().with_defaults(GenerateRequest(prompt, **options))


class StockPipeline:
    """diffusers' own pipeline with its tensors in the engine's memory layout, since another layout rounds differently."""

    def __init__(self, folder: Path) -> None:
        self._pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self._pipeline.set_progress_bar_config(disable=True)
        for part in (self._pipeline.unet, self._pipeline.vae):
            part.to(memory_format=torch.channels_last)

    def generate(self, request: GenerateRequest) -> NDArray[Any]:
        output = self._pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt or None,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            width=request.width,
            height=request.height,
            generator=torch.Generator("cpu").manual_seed(request.seed),
        )
        return np.asarray(output.images[0])


def pixels(image: Image) -> NDArray[Any]:
    """Return uint8 [height, width, 3]."""
    return np.asarray(PIL.Image.open(io.BytesIO(image.encoded)))
