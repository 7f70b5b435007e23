"""Callback in Serve's controller, set by RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH (graphs/ray.env).

Serve 2.60 gives every deployment of an application one version, a hash of all `args`: a setting of one model restarts all of them.

On `serve shutdown` Serve 2.60 stops deployments in order, callers before callees, each after its requests in flight. Before that,
however, it kills its proxies and with them every connection; a proxy that still runs keeps new requests waiting for a replica.
"""

import hashlib
from typing import Any

from ray.serve._private import application_state
from ray.serve._private.deploy_utils import deploy_args_to_deployment_info
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve._private.deployment_state import DeploymentStateManager
from ray.serve._private.endpoint_state import EndpointState
from ray.serve._private.proxy_state import ProxyStateManager


def patch() -> None:
    """Apply both patches."""
    restart_what_changed()
    end_in_order()


def restart_what_changed() -> None:
    """Patch the versions of deployments in this process: each is a hash of the deployment's own class and arguments.

    A change of `runtime_env`, of CPUs or of labels restarts replicas as before, since Serve compares these by themselves.
    """

    def with_own_version(*arguments: Any, **named: Any) -> DeploymentInfo:
        info = deploy_args_to_deployment_info(*arguments, **named)
        if info.version is not None:  # `serve.run` restarts everything
            replica = info.replica_config
            content = (replica.serialized_deployment_def, replica.serialized_init_args, replica.serialized_init_kwargs)
            info.version = info.deployment_config.version = hashlib.sha256(repr(content).encode()).hexdigest()
        return info

    application_state.deploy_args_to_deployment_info = with_own_version  # type: ignore[attr-defined]


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
