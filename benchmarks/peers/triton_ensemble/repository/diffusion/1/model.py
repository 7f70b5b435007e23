"""Stable Diffusion of the ensemble, in Triton's Python backend: the prompts of all requests are drawn in one batch."""

import numpy as np
import triton_python_backend_utils as pb_utils
from models import Diffusion


class TritonPythonModel:
    def initialize(self, args: dict) -> None:
        self.model = Diffusion()

    def execute(self, requests: list) -> list:
        prompts = [pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy() for request in requests]
        images = iter(self.model.draw([prompt.decode() for each in prompts for [prompt] in each]))
        tensors = [pb_utils.Tensor("IMAGE", np.array([[next(images)] for _ in each], np.object_)) for each in prompts]
        return [pb_utils.InferenceResponse([tensor]) for tensor in tensors]
