"""Previews of an image while it is denoised: which steps have one, and how large it is."""

from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from deployments.diffusion.encode import encode
from deployments.roles.text_to_image import Preview

LARGEST_SIDE_PX = 256


def has_preview(step: int, steps: int, previews: int) -> bool:
    """Whether this step, from 0, has one of `previews` spread evenly; the last step has none, since the image follows."""
    return (step + 1) * (previews + 1) // steps > step * (previews + 1) // steps and step + 1 < steps


def encode_preview(pixels: NDArray[Any]) -> Preview:
    """A JPEG with no side above LARGEST_SIDE_PX. `pixels`: uint8 [height, width, 3], RGB."""
    picture = PIL.Image.fromarray(pixels)
    picture.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX))
    return Preview(encode(np.asarray(picture), "jpeg", {}), *picture.size)
