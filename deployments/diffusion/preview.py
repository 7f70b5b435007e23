"""Previews of an image while it is denoised: which steps have one, and how large it is."""

from typing import Any

import numpy as np

from deployments.diffusion.encode import encode
from deployments.roles.text_to_image import Preview

LARGEST_SIDE_PX = 256


def has_preview(step: int, steps: int, previews: int) -> bool:
    """Whether this step, from 0, has one of `previews` spread evenly; the last step has none, since the image follows."""
    return (step + 1) * (previews + 1) // steps > step * (previews + 1) // steps and step + 1 < steps


def encode_preview(picture: Any) -> Preview:
    """A JPEG with no side above LARGEST_SIDE_PX. `picture`: Pillow's, which is made smaller in place."""
    picture.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX))
    return Preview(encode(np.asarray(picture), "jpeg", {}), *picture.size)
