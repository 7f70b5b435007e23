"""A call whose replica dies is sent once more: models are pure functions of their requests."""

from typing import Any

from ray.exceptions import RayActorError

from deployments.errors import ModelUnavailable
from graphs.core.errors import cause
from graphs.core.metrics import Metrics
from graphs.core.policies.policy import Call, Proceed
from graphs.core.progress import Retry as Retried


class Retry:
    """The second call waits for a replica as long as the request's time allows."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        try:
            return await proceed(call)
        except Exception as error:
            if not _replica_died(error):
                raise
        self._metrics.retried(call.stage)
        call.context.retried.append(call.stage)
        call.context.report(Retried(call.stage))
        try:
            return await proceed(call)
        except Exception as error:
            if not _replica_died(error):
                raise
            raise ModelUnavailable(
                f"two replicas that ran {call.stage} for this request have died: it is not tried again"
            ) from error


def _replica_died(error: Exception) -> bool:
    return isinstance(cause(error), RayActorError)
