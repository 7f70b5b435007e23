"""The service's settings: a section each for recordings, for the HTTP edge and for every model. Serve passes them as `args`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import Field, create_model, field_validator

from deployments.model_spec import ModelSettings, ModelSpec, Role, specs
from deployments.settings import Section
from graphs.audio.settings import AudioSettings
from graphs.http.settings import HttpSettings
from graphs.logs.settings import LoggingSettings
from graphs.rollouts.settings import RolloutSettings
from graphs.tracing.settings import TracingSettings

GRAPHS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*_to_*.py")))
"""The graphs that can be mounted: each is a module of this folder, named INPUT_to_OUTPUT."""
DEFAULT_MODELS: dict[str, str] = {
    **{spec.role: spec.name for spec in reversed(specs().values())},
    "speech_to_text": "whisper",
    "text_to_image": "diffusion",
}
"""The model of each role; of a role that is not named here, the first by name."""


class BaseSettings(Section):
    """The part of `Settings` that does not depend on which models there are."""

    graphs: tuple[str, ...] = ("voice_to_image", "voice_to_text")
    """The graphs that this service mounts; models that none of them uses are not deployed."""
    models: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_MODELS))
    """The model of each role, by the name of its folder in `deployments/`."""
    audio: AudioSettings = Field(default_factory=AudioSettings)
    """Recordings: the longest one."""
    http: HttpSettings = Field(default_factory=HttpSettings)
    """The HTTP edge: limits and the deadline."""
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    """The ingress's log: its level, and where its lines go."""
    rollouts: RolloutSettings = Field(default_factory=RolloutSettings)
    """Rollouts: mirrored requests that are kept."""
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    """Traces of requests: which are kept, and which are sent to a collector."""

    @field_validator("graphs")
    @classmethod
    def _exist(cls, graphs: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in graphs if name not in GRAPHS]
        if unknown or not graphs:
            raise ValueError(
                f"graphs must be some of {', '.join(GRAPHS)}" + (f", and not {', '.join(unknown)}" if unknown else "")
            )
        return tuple(dict.fromkeys(graphs))

    @field_validator("models")
    @classmethod
    def _have_the_role(cls, models: dict[str, str]) -> dict[str, str]:
        for role, name in models.items():
            if role not in get_args(Role):
                raise ValueError(f"there is no role {role}: models takes {', '.join(get_args(Role))}")
            able = [spec.name for spec in specs().values() if spec.role == role]
            if name not in able:
                must = f"one of {', '.join(able)}" if able else "left out, since no model has this role"
                raise ValueError(f"models.{role} must be {must}")
        return {**DEFAULT_MODELS, **models}

    @property
    def may_keep_content(self) -> bool:
        """Whether recordings, words or images of requests may outlive them: in samples, in the log, or in traces."""
        return self.rollouts.samples_folder is not None or self.logging.transcripts or self.tracing.message_content

    def section(self, spec: ModelSpec) -> ModelSettings:
        """The model's own settings."""
        found: ModelSettings = getattr(self, spec.name)
        return found

    def spec(self, target: Role | ModelSpec) -> ModelSpec:
        """The model itself, or the one of a role."""
        return target if isinstance(target, ModelSpec) else specs()[self.models[target]]


def _section(spec: ModelSpec) -> Any:
    return spec.settings, Field(default_factory=spec.settings, description=f"{spec.title}.")


if TYPE_CHECKING:
    Settings = BaseSettings
else:
    Settings = create_model(
        "Settings", __base__=BaseSettings, __module__=__name__, **{name: _section(spec) for name, spec in specs().items()}
    )
