"""COMMAND, DATA BYTES [1]; NUMBERS INT16 [n, m]  ->  DATA, NUMBERS as they came; STEPS INT32 [1]: steps of the last `work`.

COMMAND: `echo`; `work <steps>` (10 ms each, ends when cancelled); `count <steps>`: the same, telling STEPS after each;
`refuse`, `unavailable`, `fail`: with DATA as the message.
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

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            reply = pb.Reply(request)
            try:
                reply.end(self._obey(request, reply.tell))
            except Exception as error:
                reply.end(error)

    def _obey(self, request: Any, tell: pb.Tell) -> dict[str, Any]:
        pb.leave_if_cancelled(request)
        command, *arguments = pb.text(request, "COMMAND").split()
        match command:
            case "work":
                self._work(request, int(arguments[0]), lambda outputs: None)
            case "count":
                self._work(request, int(arguments[0]), tell)
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

    def _work(self, request: Any, steps: int, tell: pb.Tell) -> None:
        self._steps = 0
        for _ in range(steps):
            pb.leave_if_cancelled(request)
            self._steps += 1
            time.sleep(0.01)
            tell({"STEPS": np.array([self._steps], dtype=np.int32)})
