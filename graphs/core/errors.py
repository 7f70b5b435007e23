"""Ray's errors of a call, as the service's own."""

from ray.exceptions import RayActorError, RayTaskError

from deployments.errors import DeploymentError, ModelUnavailable, Overloaded


def cause(error: Exception) -> Exception:
    """The replica's own error, where Ray wraps one."""
    found: Exception = error.cause if isinstance(error, RayTaskError) else error
    return found


def translate_error(stage: str, error: Exception) -> DeploymentError:
    """The error as a DeploymentError that names its stage."""
    translated = _translate(stage, cause(error))
    translated.stage = translated.stage or stage
    return translated


def _translate(stage: str, error: Exception) -> DeploymentError:
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError  # here, since it loads FastAPI

    if isinstance(error, DeploymentError):
        return error
    if isinstance(error, BackPressureError):
        return Overloaded(f"{stage} has more requests than it takes: try again shortly")
    if isinstance(error, (RayActorError, DeploymentUnavailableError)):
        return ModelUnavailable(f"the replica that ran {stage} is gone, and a new one is being started: try again shortly")
    return DeploymentError(f"{stage} failed: {type(error).__name__}: {error}")
