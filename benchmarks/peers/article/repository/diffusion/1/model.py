"""PROMPT BYTES [1], UTF-8  ->  IMAGE UINT8 [height, width, 3], RGB."""

import io
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # provided by the stub itself
from PIL import Image

from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._settings = DiffusionSettings()
        self._engine = DiffusionEngine(EngineConfig(self._settings.model))

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy()[0].decode()
            # The engine returns a file; the article's model returns pixels.
            image = self._engine.generate(self._settings.with_defaults(GenerateRequest(text)), {}).image
            tensor = pb_utils.Tensor("IMAGE", np.asarray(Image.open(io.BytesIO(image.encoded))))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses
