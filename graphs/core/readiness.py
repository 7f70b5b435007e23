"""Readiness of the models, from Serve's controller, whose health checks run a probe inference in each replica."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments.errors import ModelUnavailable

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview, ServeStatus  # loads FastAPI

FRESH_S = 1.0
"""A state as old as this is refreshed in the background; no request waits for it."""
ANSWER_S = 3.0
"""Longest wait of a probe for the controller's answer."""
SERVING = ("RUNNING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")
"""Serve's states of a replica that takes requests; it is RECOVERING while a restarted controller looks for it."""


@dataclass(frozen=True)
class ModelState:
    phase: str
    """`ready`, `starting`, `failing`, or `absent`."""
    reason: str = ""
    replicas: int = 0
    """Replicas that serve."""

    @property
    def ready(self) -> bool:
        return self.phase == "ready"


class Readiness:
    """The state of an application's deployments: about a second old at most."""

    def __init__(
        self, application: str, names: tuple[str, ...], status: Callable[[], "ServeStatus"], fresh_s: float = FRESH_S
    ) -> None:
        """`status`: asks Serve's controller, see `graphs.serve.status`. It blocks, and raises Ray's errors."""
        self._application = application
        self._names = names
        self._status = status
        self._fresh_s = fresh_s
        self._states: dict[str, ModelState] = {}
        self._unanswered = ""
        """The reason why the controller did not answer the last request."""
        self._asked_s = -fresh_s
        self._asking: asyncio.Task[None] | None = None

    async def states(self) -> dict[str, ModelState]:
        """Each model's state, at most a second old; absent where the controller does not answer within ANSWER_S."""
        self._ask()
        if self._asking is not None:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await asyncio.shield(self._asking)
            except TimeoutError:
                return {
                    name: ModelState("absent", f"Serve's controller has not answered for {ANSWER_S:g} s") for name in self._names
                }
        return {name: ModelState("absent", self._unanswered) for name in self._names} if self._unanswered else self._states

    async def watch(self) -> None:
        """Keep the state of models that do not serve fresh until cancelled: `require` would refuse a request by an old one."""
        while True:
            if not self._states or not all(state.ready for state in self._states.values()):
                await self.states()
            await asyncio.sleep(self._fresh_s)

    def require(self, name: str) -> None:
        """Raise ModelUnavailable if the model had no serving replica when it was last seen; a call would wait for one.

        Replicas go on serving while the controller does not answer, so the last state counts then.
        """
        self._ask()
        state = self._states.get(name)
        if state is not None and not state.ready:
            raise ModelUnavailable(f"{name} is {state.phase}: {state.reason or 'no replica of it serves now'}; try again shortly")

    def last(self, name: str) -> ModelState | None:
        """The model's state when it was last seen, also while the controller does not answer; None before the first answer."""
        return self._states.get(name)

    def replicas(self, name: str) -> int:
        """The model's serving replicas when it was last seen."""
        state = self._states.get(name)
        return state.replicas if state else 0

    def _ask(self) -> None:
        if self._asking is None and time.monotonic() - self._asked_s >= self._fresh_s:
            self._asking = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            status = await asyncio.to_thread(self._status)
            application = status.applications.get(self._application)
            if not (self._states and _serves_unnamed(application)):
                self._states = {name: _state(application, name) for name in self._names}
            self._unanswered = ""
        except Exception as error:
            self._unanswered = f"Serve's controller does not answer: {error}"
        finally:
            self._asked_s = time.monotonic()
            self._asking = None


def _serves_unnamed(application: "ApplicationStatusOverview | None") -> bool:
    """Whether replicas may serve that Serve does not name: for seconds during an update, and at its end until their callers end."""
    if application is None or application.status == "DELETING":
        return True
    return application.status == "DEPLOYING" and not application.deployments


def _state(application: "ApplicationStatusOverview | None", name: str) -> ModelState:
    deployment = application.deployments.get(name) if application else None
    if deployment is None:
        return ModelState("absent", "Serve has no deployment of this name")
    # Declared as an enumeration's members, which arrive as plain strings, and are equal to them.
    running: int = sum(deployment.replica_states.get(phase, 0) for phase in SERVING)  # type: ignore[call-overload]
    if running > 0:
        return ModelState("ready", replicas=running)
    failed = deployment.status in ("UNHEALTHY", "DEPLOY_FAILED")
    # The message of a failed constructor ends with its traceback; the last line is the sentence.
    lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
    return ModelState("failing" if failed else "starting", lines[-1] if lines else "")
