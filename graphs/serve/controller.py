"""Callback in Serve's controller, set by RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH (graphs/ray.env).

On `serve shutdown` Serve 2.60 stops deployments in order, callers before callees, each after its requests in flight. Before that,
however, it kills its proxies and with them every connection; a proxy that still runs keeps new requests waiting for a replica.
"""

from ray.serve._private.deployment_state import DeploymentStateManager
from ray.serve._private.endpoint_state import EndpointState
from ray.serve._private.proxy_state import ProxyStateManager


def end_in_order() -> None:
    """Patch the order of Serve's shutdown in this process: remove the routes, stop the deployments, stop the proxies last."""
    stop_deployments, stop_routes, stop_proxies = (
        DeploymentStateManager.shutdown,
        EndpointState.shutdown,
        ProxyStateManager.shutdown,
    )
    stopping: list[DeploymentStateManager] = []

    # The controller calls all three repeatedly until everything has stopped.
    def deployments(manager: DeploymentStateManager) -> None:
        stopping[:] = [manager]
        stop_deployments(manager)  # type: ignore[no-untyped-call]

    def routes(state: EndpointState) -> None:
        for endpoint in list(state.get_endpoints()):
            state.delete_endpoint(endpoint)
        stop_routes(state)  # type: ignore[no-untyped-call]

    def proxies(manager: ProxyStateManager) -> None:
        if all(deployments.is_ready_for_shutdown() for deployments in stopping):
            stop_proxies(manager)

    DeploymentStateManager.shutdown = deployments  # type: ignore[method-assign]
    EndpointState.shutdown = routes  # type: ignore[method-assign]
    ProxyStateManager.shutdown = proxies  # type: ignore[method-assign, assignment]
