"""COMMAND, DATA BYTES [1]; NUMBERS INT16 [n, m]  ->  DATA, NUMBERS as they came; STEPS INT32 [1]: steps of the last `work`.

COMMAND: `echo`; `work <steps>` (10 ms each, ends when cancelled); `count <steps>`: the same, telling STEPS after each;
`refuse`, `unavailable`, `fail`: with DATA as the message.
"""

import time
from typing import Any

import numpy as np

from deployments.errors import InvalidInput, ModelUnavailable
from deployments.triton import stub


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._steps = 0
        if stub.parameters(args).get("broken"):
            raise ValueError("the weights are not where they should be")

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            reply = stub.Reply(request)
            try:
                reply.end(self._obey(request, reply.tell))
            except Exception as error:
                reply.end(error)

    def _obey(self, request: Any, tell: stub.Tell) -> dict[str, Any]:
        stub.leave_if_cancelled(request)
        command, *arguments = stub.text(request, "COMMAND").split()
        match command:
            case "work":
                self._work(request, int(arguments[0]), lambda outputs: None)
            case "count":
                self._work(request, int(arguments[0]), tell)
            case "refuse":
                raise InvalidInput(stub.text(request, "DATA"))
            case "unavailable":
                raise ModelUnavailable(stub.text(request, "DATA"))
            case "fail":
                raise RuntimeError(stub.text(request, "DATA"))
        data = bytes(stub.pb_utils.get_input_tensor_by_name(request, "DATA").as_numpy()[0])
        return {
            "DATA": np.array([data], dtype=np.object_),
            "NUMBERS": stub.array(request, "NUMBERS"),
            "STEPS": np.array([self._steps], dtype=np.int32),
        }

    def _work(self, request: Any, steps: int, tell: stub.Tell) -> None:
        self._steps = 0
        for _ in range(steps):
            stub.leave_if_cancelled(request)
            self._steps += 1
            time.sleep(0.01)
            tell({"STEPS": np.array([self._steps], dtype=np.int32)})
