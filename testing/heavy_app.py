"""An app whose module loads a model library, which the doctor has to find."""

import safetensors  # noqa: F401

from graphs.voice_to_image import app

__all__ = ["app"]
