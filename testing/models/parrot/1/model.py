"""COMMAND, DATA BYTES [1]; NUMBERS INT16 [n, m]  ->  DATA, NUMBERS as in the request; STEPS INT32 [1]: steps of the last `work`.

COMMAND: `echo`; `work <steps>` (10 ms each, ends when cancelled); `count <steps>`: the same, with a response of STEPS after each;
`refuse`, `unavailable`, `fail`: an error with DATA as its message; `break`: from now on all but `echo` and `mend` fail.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from deployments.errors import InvalidInput, ModelUnavailable
from deployments.triton import stub


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._steps = 0
        self._is_broken = False
        if stub.parameters(args).get("broken"):
            raise ValueError("the weights are not where they should be")

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            responder = stub.Responder(request)
            try:
                responder.finish(self._run(request, responder.send))
            except Exception as error:
                responder.finish(error)

    def _run(self, request: Any, send: Callable[[stub.Outputs], None]) -> stub.Outputs:
        stub.check_cancelled(request)
        command, *arguments = stub.text(request, "COMMAND").split()
        if command in ("break", "mend"):
            self._is_broken = command == "break"
        elif self._is_broken and command != "echo":
            raise RuntimeError("as if its GPU were lost")
        match command:
            case "work":
                self._work(request, int(arguments[0]), lambda outputs: None)
            case "count":
                self._work(request, int(arguments[0]), send)
            case "refuse":
                raise InvalidInput(stub.text(request, "DATA"))
            case "unavailable":
                raise ModelUnavailable(stub.text(request, "DATA"))
            case "fail":
                raise RuntimeError(stub.text(request, "DATA"))
        data = bytes(stub.array(request, "DATA").flat[0])
        return {
            "DATA": np.array([data], dtype=np.object_),
            "NUMBERS": stub.array(request, "NUMBERS"),
            "STEPS": np.array([self._steps], dtype=np.int32),
        }

    def _work(self, request: Any, steps: int, send: Callable[[stub.Outputs], None]) -> None:
        self._steps = 0
        for _ in range(steps):
            stub.check_cancelled(request)
            self._steps += 1
            time.sleep(0.01)
            send({"STEPS": np.array([self._steps], dtype=np.int32)})
