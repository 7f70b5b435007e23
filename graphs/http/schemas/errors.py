"""Errors in the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """urn:sonograph:problem: and the code."""
    title: str
    status: int
    detail: str
    """A sentence that names the fault, the bound that it exceeded, and the remedy."""
    code: str
    """Stable name of the error."""
    stage: str | None = None
    """The stage that failed."""
    request_id: str

    @classmethod
    def inline(cls) -> dict[str, Any]:
        """Its JSON schema, without references."""
        return cls.model_json_schema()


class OpenAIError(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    """A sentence that names the fault, the bound that it exceeded, and the remedy."""
    type: Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
    param: str | None
    """The parameter that is at fault, where it is one."""
    code: str
    """Stable name of the error."""


class OpenAIErrorAnswer(BaseModel):
    """The error of OpenAI's API."""

    error: OpenAIError

    @classmethod
    def inline(cls) -> dict[str, Any]:
        """Its JSON schema, without references."""
        return {"type": "object", "required": ["error"], "properties": {"error": OpenAIError.model_json_schema()}}
