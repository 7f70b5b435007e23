"""Status of the applications, read from Serve's controller at a low cost."""

from typing import Any

from ray._private.services import get_webui_url_from_internal_kv
from ray.serve._private.constants import RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus

PROXY_CALLBACK: str | None = RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
"""Import path of the function that makes the middleware of Serve's proxies, from the environment of this process."""


def details() -> dict[str, Any] | None:
    """Return the content of `GET /api/serve/applications/` on the head; None where Serve does not run. Raises Ray's errors."""
    client = _get_global_client(raise_if_no_controller_running=False)
    return dict(client.get_serve_details()) if client is not None else None


def status() -> ServeStatus:
    """Return the same as `serve.status()` for 2 ms of this process's time instead of 45 to 150 ms. Raises Ray's errors.

    In Ray 2.60 `serve.status()` makes pydantic models of all details, and each model pickles its request router to validate it.
    """
    found = details()
    return from_details(found) if found is not None else ServeStatus()


def application_args(name: str) -> dict[str, Any] | None:
    """The `args` of an application's configuration; None where Serve has no application of this name. Raises Ray's errors."""
    found = (details() or {"applications": {}})["applications"].get(name)
    if found is None or found["status"] == "DELETING":
        return None
    return dict((found.get("deployed_app_config") or {}).get("args") or {})


def dashboard_url() -> str | None:
    """Address of Ray's dashboard; None where it does not run."""
    found = get_webui_url_from_internal_kv()  # type: ignore[no-untyped-call]
    return f"http://{found}" if found else None


def from_details(details: dict[str, Any]) -> ServeStatus:
    """Convert `details`, which have the shape of Serve's REST API (`GET /api/serve/applications/`)."""
    return ServeStatus(applications={name: _application(application) for name, application in details["applications"].items()})


def _application(details: dict[str, Any]) -> ApplicationStatusOverview:
    deployments = {name: _deployment(deployment) for name, deployment in details["deployments"].items()}
    return ApplicationStatusOverview(details["status"], details["message"], details["last_deployed_time_s"], deployments)


def _deployment(details: dict[str, Any]) -> DeploymentStatusOverview:
    states: dict[Any, int] = {}
    for replica in details["replicas"]:
        states[replica["state"]] = states.get(replica["state"], 0) + 1
    return DeploymentStatusOverview(details["status"], details["status_trigger"], states, details["message"])
