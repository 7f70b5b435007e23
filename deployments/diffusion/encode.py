"""Pixels to image bytes, by Pillow."""

import io
from collections.abc import Mapping
from typing import Any

import PIL.Image
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from deployments.roles.image_formats import IMAGE_FORMATS


def encode(pixels: NDArray[Any], format: str, metadata: Mapping[str, str]) -> bytes:
    """The image in one of IMAGE_FORMATS. `pixels`: uint8 [height, width, 3], RGB.

    `metadata` becomes text chunks of a PNG: iTXt where Latin-1 does not suffice.
    """
    kind = IMAGE_FORMATS[format]
    options = dict(kind.options)
    if kind.text_chunks:
        info = PngInfo()
        for key, value in metadata.items():
            info.add_text(key, value)
        options["pnginfo"] = info
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()
