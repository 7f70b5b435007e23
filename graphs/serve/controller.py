"""A callback in Serve's controller, by RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH (graphs/ray.env).

On `serve shutdown` Serve 2.60 ends deployments in order, callers before callees, each after its requests in flight. But before that it
kills its proxies, and with them every connection; and a living proxy keeps new requests waiting for a replica.
"""

from ray.serve._private.deployment_state import DeploymentStateManager
from ray.serve._private.endpoint_state import EndpointState
from ray.serve._private.proxy_state import ProxyStateManager


def end_in_order() -> None:
    """Patches the order of Serve's shutdown in this process: remove the routes, end the deployments, end the proxies last."""
    end_deployments, end_routes, end_proxies = DeploymentStateManager.shutdown, EndpointState.shutdown, ProxyStateManager.shutdown
    ending: list[DeploymentStateManager] = []

    # The controller calls all three repeatedly until everything has ended.
    def deployments(manager: DeploymentStateManager) -> None:
        ending[:] = [manager]
        end_deployments(manager)  # type: ignore[no-untyped-call]

    def routes(state: EndpointState) -> None:
        for endpoint in list(state.get_endpoints()):
            state.delete_endpoint(endpoint)
        end_routes(state)  # type: ignore[no-untyped-call]

    def proxies(manager: ProxyStateManager) -> None:
        if all(deployments.is_ready_for_shutdown() for deployments in ending):
            end_proxies(manager)

    DeploymentStateManager.shutdown = deployments  # type: ignore[method-assign]
    EndpointState.shutdown = routes  # type: ignore[method-assign]
    ProxyStateManager.shutdown = proxies  # type: ignore[method-assign, assignment]
