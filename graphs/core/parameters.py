"""Parameters of a graph's requests, and what every JSON answer has: pydantic models that are the OpenAPI document too."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from graphs.core.context import RequestContext

LARGEST_TIMEOUT_MS = 2**31 - 1
TimeoutMs = Annotated[int | None, Field(ge=1, le=LARGEST_TIMEOUT_MS)]


class GraphParameters(BaseModel):
    """Parameters of every graph: form fields, or in the query."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    timeout_ms: TimeoutMs = None
    """Milliseconds from receipt after which the answer is of no use; lowers the service's deadline, as X-Timeout-Ms does."""


class JsonAnswer(BaseModel):
    """Base of every JSON answer: its fields are described by what stands below them."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class GraphAnswer(JsonAnswer):
    """A graph's JSON answer. A field that is None is left out."""

    request_id: str
    """The client's X-Request-ID where it is well formed; else a new one."""
    models: dict[str, str]
    """Names of the models that answered, by stage."""
    timings_ms: dict[str, float]
    """Milliseconds by stage."""
    degraded: dict[str, str] | None = None
    """Soft stages that failed, and why; absent where none did."""
    decode_warnings: list[str] | None = None
    """Sentences about what was left out of a damaged recording; absent where nothing was."""

    def content(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


def common(context: RequestContext) -> dict[str, Any]:
    """The fields of GraphAnswer."""
    timings_ms = {stage: round(ms, 1) for stage, ms in context.timings_ms.items()}
    degraded = dict(context.degraded) or None
    return {
        "request_id": context.id,
        "models": dict(context.models),
        "timings_ms": timings_ms,
        "degraded": degraded,
        "decode_warnings": list(context.decode_warnings) or None,
    }
