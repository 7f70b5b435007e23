"""PROMPT BYTES [1], UTF-8  ->  IMAGE UINT8 [height, width, 3], RGB."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # provided by the stub itself
from PIL import Image

from deployments import diffusion
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.types import Prompt


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The defaults of the service's settings, as in `Prompt`; reading the settings here would load Ray.
        self._engine = DiffusionEngine(str(Path(diffusion.__file__).parent / "small-stable-diffusion"))

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy()[0].decode()
            # The engine returns a file, the article's model returns pixels.
            picture = Image.open(io.BytesIO(self._engine.generate(Prompt(text), {}).encoded))
            tensor = pb_utils.Tensor("IMAGE", np.asarray(picture))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses
