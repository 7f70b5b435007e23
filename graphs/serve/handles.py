"""Handles of deployments that may be starting, and a question to every replica of one."""

from typing import Any

from ray import serve

ANSWER_S = 5.0
"""Longest wait for all replicas; one that is being replaced answers late or never."""


def handle(deployment: str, application: str) -> Any:
    """Return a handle of a deployment, which need not exist yet."""
    return serve.get_deployment_handle(deployment, app_name=application, _check_exists=False)


class Broadcast:
    """Calls a method of each replica. The handle is made at the first call, since a deployment cannot ask for itself while it starts."""

    def __init__(self, application: str, deployment: str, method: str) -> None:
        self._application, self._deployment, self._method = application, deployment, method
        self._handle: Any = None

    async def __call__(self, *arguments: Any) -> list[Any]:
        """Each replica's result; None for one that fails."""
        if self._handle is None:
            self._handle = handle(self._deployment, self._application)
        response = self._handle.broadcast(self._method, *arguments)
        results = await response.results_async(timeout_s=ANSWER_S, return_exceptions=True)
        return [None if isinstance(result, BaseException) else result for result in results]
