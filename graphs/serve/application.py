"""Parts of a built Serve application that Serve does not show: its deployment, and that one's configuration. Loads no Ray."""

from typing import Any


def bound_deployment(application: Any) -> Any:
    return application._bound_deployment


def deployment_config(deployment: Any) -> Any:
    """Return what `@serve.deployment` states, and Serve's defaults; None for an object of another kind."""
    return getattr(deployment, "_deployment_config", None)
