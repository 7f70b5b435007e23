"""What a room can answer instead of a result. Plain Python: the Triton stub imports it too.

Each class takes one message, since exceptions with other arguments do not survive pickling between replicas;
attributes set on an instance do.
"""

from typing import ClassVar


class DeploymentError(Exception):
    """Anything a room fails with; on its own it means a defect."""

    status: ClassVar[int] = 500
    """HTTP status of the answer."""
    code: ClassVar[str] = "internal"
    """Stable name of the error, for programs."""
    title: ClassVar[str] = "Internal error"
    stage: str | None = None
    """The stage of the graph that was running, once known."""
    param: str | None = None
    """The request's parameter that is at fault, where it is one."""
    retry_after_s: int | None = None
    """Seconds after which trying again makes sense, where it does."""


class InvalidInput(DeploymentError):
    """The request asks for something that this model or these settings cannot do."""

    status = 422
    code = "invalid_parameter"
    title = "Invalid parameter"


class NoSpeech(InvalidInput):
    code = "no_speech"
    title = "No speech in the recording"


class ContentRefused(InvalidInput):
    """The safety checker flagged the picture."""

    code = "content_refused"
    title = "Picture refused by the safety checker"


class Overloaded(DeploymentError):
    status = 503
    code = "overloaded"
    title = "Too many requests at once"
    retry_after_s = 2


class ModelUnavailable(DeploymentError):
    """The model's replica is starting, restarting or gone."""

    status = 503
    code = "model_unavailable"
    title = "Model unavailable"
    retry_after_s = 5


class DeadlineExceeded(DeploymentError):
    status = 504
    code = "deadline_exceeded"
    title = "Deadline exceeded"


class DeadlineUnreachable(DeploymentError):
    """A stage was not started, since it takes longer than the time that is left."""

    status = 504
    code = "deadline_unreachable"
    title = "Deadline out of reach"
