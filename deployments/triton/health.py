"""Whether the model of a Triton server serves: alive, not stalled, and not failing on every request."""

import time
from collections.abc import Awaitable, Callable

from deployments.errors import DeadlineExceeded, DeploymentError, ModelUnavailable

PROBE_S = 5.0
"""Longest wait for the probe inference of an idle model."""
RECENT_S = 10.0
"""A model that responded this recently needs no probe."""
MAX_FAILURES = 3
"""Failed requests in a row, without one that succeeded, after which the health check runs a real inference."""
REAL_S = 10.0
"""Longest wait for that inference; below every deployment's `health_check_timeout_s`."""

Infer = Callable[[float], Awaitable[object]]
"""An inference that has so many seconds."""


class StubDied(ModelUnavailable):
    """The process that holds the model has died; only a new replica helps."""


class ModelBroken(StubDied):
    """The model fails on every request, a small one of the health check's too; only a new replica helps."""


class Health:
    """A judgement of the model by its responses."""

    def __init__(self, name: str, stall_s: float) -> None:
        """`stall_s`: longest silence of a model that works."""
        self._name = name
        self._stall_s = stall_s
        self.last_response_s = time.monotonic()
        self.failures = 0
        """Requests in a row that failed by a defect of the model, not of the request."""

    def responded(self) -> None:
        """Note a response, or that an idle model begins to work."""
        self.last_response_s = time.monotonic()

    def ended(self, failed: bool) -> None:
        """Note a request whose outcome is the model's: no refused or cancelled one, and no probe, to which a broken model may respond."""
        self.failures = self.failures + 1 if failed else 0

    async def check(self, busy: bool, probe: Infer, real: Infer) -> None:
        """Return when the model serves. `busy`: whether it has requests. Raises ModelBroken or ModelUnavailable, with the reason.

        `probe`: an inference to which a model responds at once; `real`: a small real one.
        """
        if self.failures >= MAX_FAILURES:
            await self._check_really(real)
            return
        silent_s = time.monotonic() - self.last_response_s
        if silent_s < RECENT_S:
            return
        if busy:
            if silent_s > self._stall_s:
                raise ModelUnavailable(f"{self._name} has been working for {silent_s:.0f} s without an answer")
            return
        try:
            await probe(PROBE_S)
        except DeadlineExceeded as error:
            raise ModelUnavailable(f"{self._name} is idle and did not answer a probe within {PROBE_S:.0f} s") from error

    async def _check_really(self, real: Infer) -> None:
        """A model that works clears the failures by it: they came from what was asked."""
        failures = self.failures
        try:
            await real(REAL_S)
        except DeadlineExceeded as error:
            raise ModelUnavailable(
                f"{self._name} failed {failures} times in a row and did not answer a small request within {REAL_S:.0f} s"
            ) from error
        except StubDied:
            raise
        except DeploymentError as error:
            raise ModelBroken(f"{self._name} failed {failures} times in a row, and on a small request: {error}") from error
