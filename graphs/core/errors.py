"""Ray's errors of a call, as the service's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayActorError, RayTaskError

from deployments.errors import DeploymentError, ModelUnavailable, Overloaded


def cause(error: Exception) -> Exception:
    """The replica's own error, where Ray wraps one."""
    found: Exception = error.cause if isinstance(error, RayTaskError) else error
    return found


@contextmanager
def translated(stage: str) -> Iterator[None]:
    """Raise every error of its block as a DeploymentError that names the stage. A cancellation passes."""
    try:
        yield
    except Exception as error:
        ours = _translate(stage, cause(error))
        ours.stage = ours.stage or stage
        if ours is error:
            raise
        raise ours from error


def _translate(stage: str, error: Exception) -> DeploymentError:
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError  # here, since it loads FastAPI

    if isinstance(error, DeploymentError):
        return error
    if isinstance(error, BackPressureError):
        return Overloaded(f"{stage} has more requests than it takes: try again shortly")
    if isinstance(error, (RayActorError, DeploymentUnavailableError)):
        return ModelUnavailable(f"the replica that ran {stage} is gone, and a new one is being started: try again shortly")
    return DeploymentError(f"{stage} failed: {type(error).__name__}: {error}")
