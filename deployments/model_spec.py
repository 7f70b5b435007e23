"""A model's description of itself, for graphs, the HTTP edge, images and manifests. Each model has one, in its `spec.py`.

Loads neither Ray nor a model library, so that settings, documents and manifests can be derived from it anywhere.
"""

import importlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from deployments.compute_time import Answer
from deployments.paths import model_name, model_version
from deployments.settings import Section

Role = Literal["speech_to_text", "text_to_image", "image_to_image"]
"""A model's task, for routes that serve any model of that task, such as those of OpenAI's API."""


class ModelSettings(Section):
    """The settings that every model has."""

    model: str
    """A checkpoint's name or path."""
    aliases: tuple[str, ...] = ()
    """Further ids by which `/v1` takes the model."""
    max_batch: int = Field(default=8, ge=1)
    """Most requests that share a batch."""
    stall_s: float = Field(default=300.0, gt=0)
    """A replica that has worked for so many seconds without one answer counts as dead and is replaced."""

    @property
    def model_name(self) -> str:
        """The name in answers: a path's last part, or the name itself."""
        return model_name(self.model)

    @property
    def deployed(self) -> bool:
        """Whether the service runs this model; the settings of an optional model override it."""
        return True


@dataclass(frozen=True)
class Workload:
    """The basis of a request's expected time. Requests of one `key` take a fixed time, and a time for each of `units`."""

    key: Hashable
    units: int


@dataclass(frozen=True)
class Hardware:
    """A replica's resources, unless a profile of `kuberay/` sets others."""

    cpus: int = 1
    memory_gib: int = 4
    gpus: float = 1
    """GPUs on GPU profiles."""


@dataclass(frozen=True)
class ModelSpec:
    """A model. Its `name` names the folder, the Serve deployment, the stage, the settings section, the extra and the image."""

    name: str
    title: str
    """The name in documents, such as `Whisper`."""
    role: Role
    settings: type[ModelSettings]
    result: type[Answer]
    """The class of `run`'s result."""
    deployment: str
    """The Serve class, as `module:Class`: a `deployments.base.ModelDeployment`."""
    workload: Callable[[Any, Any], Workload]
    """A request's workload by the settings: `workload(request, settings)`."""
    progress: tuple[type, ...] = ()
    """Classes of what `stream` yields before the result; each has `EVENTS` and `events()`."""
    hardware: Hardware = field(default_factory=Hardware)

    @property
    def events(self) -> tuple[str, ...]:
        """Types of the server-sent events of its progress and result."""
        return tuple(name for one in (*self.progress, self.result) for name in getattr(one, "EVENTS", ()))

    @property
    def version(self) -> str:
        """The version of the model in its Triton repository; empty for a stub."""
        return model_version(self.name)

    @property
    def in_triton(self) -> bool:
        """Whether the model runs in Triton, with packages and an image of its own; a stub does not."""
        return bool(self.version)

    def section(self, values: dict[str, Any]) -> ModelSettings:
        """The model's settings. Raises ValueError with a line for each wrong one, which names it."""
        try:
            return self.settings.model_validate(values)
        except ValidationError as error:
            found = {".".join(map(str, (self.name, *one["loc"]))): one["msg"] for one in error.errors()}
            sentences = (f"{name}: {sentence.removeprefix('Value error, ')}" for name, sentence in found.items())
            raise ValueError("\n".join(sentences)) from error

    def load(self) -> type:
        """Import the Serve class, which loads Ray."""
        module, name = self.deployment.split(":")
        loaded: type = getattr(importlib.import_module(module), name)
        return loaded


@cache
def specs() -> dict[str, ModelSpec]:
    """Every model's description by its name, from each folder here that has a `spec.py`."""
    folders = sorted(path.parent.name for path in Path(__file__).parent.glob("*/spec.py"))
    return {name: importlib.import_module(f"deployments.{name}.spec").SPEC for name in folders}
