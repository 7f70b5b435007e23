"""Text to image: Stable Diffusion, by diffusers."""

from deployments.diffusion.deployment import Diffusion, GenerateOptions, Image, bind
from deployments.diffusion.settings import DiffusionSettings

__all__ = ["Diffusion", "DiffusionSettings", "GenerateOptions", "Image", "bind"]
