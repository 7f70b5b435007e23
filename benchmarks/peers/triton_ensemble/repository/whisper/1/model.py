"""Whisper of the ensemble, in Triton's Python backend."""

import numpy as np
import triton_python_backend_utils as pb_utils
from models import Whisper


class TritonPythonModel:
    def initialize(self, args: dict) -> None:
        self.model = Whisper()

    def execute(self, requests: list) -> list:
        responses = []
        for request in requests:
            recordings = pb_utils.get_input_tensor_by_name(request, "RECORDING").as_numpy()
            texts = [[self.model.transcribe(recording).encode()] for [recording] in recordings]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", np.array(texts, np.object_))]))
        return responses
