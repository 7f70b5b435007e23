"""App whose module loads a model library, which the doctor must find."""

import safetensors  # noqa: F401

from graphs.voice_to_image import app

__all__ = ["app"]
