"""The interface of a policy."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.model_spec import Workload
from graphs.core.context import RequestContext


@dataclass(frozen=True)
class Call:
    """One call of a stage's model."""

    stage: str
    request: Any
    """A dataclass of the model's role or types."""
    workload: Workload
    context: RequestContext


Proceed = Callable[[Call], Awaitable[Any]]


class Policy(Protocol):
    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """The result of `proceed`, which may be called never, once or again. Raises a DeploymentError."""


def chained(policies: tuple[Policy, ...], last: Proceed) -> Proceed:
    """The policies around `last`, the first one outermost."""
    for policy in reversed(policies):
        last = _around(policy, last)
    return last


def _around(policy: Policy, proceed: Proceed) -> Proceed:
    async def run(call: Call) -> Any:
        return await policy(call, proceed)

    return run
