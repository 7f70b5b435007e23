"""Errors of a model's deployment. Plain Python: the Triton stub imports it too.

Each class takes one message, since exceptions with other arguments do not survive pickling between replicas;
attributes set on an instance do.
"""

from typing import ClassVar


class DeploymentError(Exception):
    """Any failure of a model's deployment. The class itself, not a subclass, means a defect."""

    status: ClassVar[int] = 500
    """HTTP status of the response."""
    code: ClassVar[str] = "internal"
    """Stable name of the error, for programs."""
    title: ClassVar[str] = "Internal error"
    stage: str | None = None
    """The stage of the graph that failed, where it is known."""
    param: str | None = None
    """The request's parameter at fault, where there is one."""
    retry_after_s: int | None = None
    """Seconds after which a retry can succeed, where it can."""


class InvalidInput(DeploymentError):
    """The request asks for something that this model or these settings cannot do."""

    status = 422
    code = "invalid_parameter"
    title = "Invalid parameter"


class NoSpeech(InvalidInput):
    """The recording has no speech in it."""

    code = "no_speech"
    title = "No speech in the recording"


class ContentRefused(InvalidInput):
    """The safety checker flagged the image."""

    code = "content_refused"
    title = "Picture refused by the safety checker"


class Overloaded(DeploymentError):
    """More requests than may wait at once."""

    status = 503
    code = "overloaded"
    title = "Too many requests at the same time"
    retry_after_s = 2


class ModelUnavailable(DeploymentError):
    """The model's replica is starting, restarting or has ended."""

    status = 503
    code = "model_unavailable"
    title = "Model unavailable"
    retry_after_s = 5


class DeadlineExceeded(DeploymentError):
    """The request's time ended before its result."""

    status = 504
    code = "deadline_exceeded"
    title = "Deadline exceeded"


class DeadlineUnreachable(DeploymentError):
    """A stage did not start, since it takes longer than the time that is left."""

    status = 504
    code = "deadline_unreachable"
    title = "Deadline out of reach"
