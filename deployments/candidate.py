"""A Serve application of one model alone, beside the service's: the candidate of a rollout. `deployments.candidate:app`."""

from typing import Any, Self

from pydantic import Field, model_validator
from ray.serve import Application

from deployments import base
from deployments.model_spec import specs
from deployments.settings import Section


class CandidateSettings(Section):
    """The application's `args`."""

    model: str
    """The model's name, as of its folder here."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The model's section of the settings."""

    @model_validator(mode="after")
    def _are_the_models(self) -> Self:
        if self.model not in specs():
            raise ValueError(f"model must be one of {', '.join(specs())}, and not {self.model}")
        specs()[self.model].section(self.settings)
        return self


def app(settings: CandidateSettings) -> Application:
    """The model's deployment, without an ingress: the service's ingress calls it by the application's name."""
    spec = specs()[settings.model]
    return base.bind(spec, spec.section(settings.settings))
