"""AUDIO INT16 [samples], mono 16 kHz  ->  TEXT BYTES [1], UTF-8."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # provided by the stub itself

from deployments.roles.speech_to_text import TranscribeRequest
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.settings import WhisperSettings


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._engine = WhisperEngine(WhisperSettings().engine_config())

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            audio = pb_utils.get_input_tensor_by_name(request, "AUDIO").as_numpy()
            text = self._engine.transcribe(TranscribeRequest(audio)).text
            tensor = pb_utils.Tensor("TEXT", np.array([text.encode()], dtype=np.object_))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses
