"""COMMAND, DATA BYTES [1]; NUMBERS INT16 [n, m]  ->  DATA, NUMBERS as they came; STEPS INT32 [1]: steps of the last `work`.

COMMAND: `echo`; `work <steps>` (10 ms each, ends when cancelled); `refuse`, `unavailable`, `fail`: with DATA as the message.
"""

import time
from typing import Any

import numpy as np

from deployments import pb
from deployments.errors import InvalidInput, ModelUnavailable


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._steps = 0
        if pb.parameters(args).get("broken"):
            raise ValueError("the weights are not where they should be")

    def execute(self, requests: list[Any]) -> list[Any]:
        return pb.answer(requests, self._obey)

    def _obey(self, request: Any) -> dict[str, Any]:
        command, *arguments = pb.text(request, "COMMAND").split()
        match command:
            case "work":
                self._work(request, int(arguments[0]))
            case "refuse":
                raise InvalidInput(pb.text(request, "DATA"))
            case "unavailable":
                raise ModelUnavailable(pb.text(request, "DATA"))
            case "fail":
                raise RuntimeError(pb.text(request, "DATA"))
        data = bytes(pb.pb_utils.get_input_tensor_by_name(request, "DATA").as_numpy()[0])
        return {
            "DATA": np.array([data], dtype=np.object_),
            "NUMBERS": pb.array(request, "NUMBERS"),
            "STEPS": np.array([self._steps], dtype=np.int32),
        }

    def _work(self, request: Any, steps: int) -> None:
        self._steps = 0
        for _ in range(steps):
            if request.is_cancelled():
                raise pb.Cancelled("cancelled")
            self._steps += 1
            time.sleep(0.01)
