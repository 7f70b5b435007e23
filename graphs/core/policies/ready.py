"""A call of a model without a serving replica is refused at once; it would wait for one until its deadline."""

from typing import Any

from graphs.core.policies.policy import Call, Proceed
from graphs.core.readiness import Readiness


class Ready:
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        self._readiness.require(call.stage)
        return await proceed(call)
