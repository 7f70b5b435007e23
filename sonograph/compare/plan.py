"""Plan of a comparison: the candidates, and the key of each pair of candidate and input, under which its result is kept."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployments.model_spec import ModelSettings, ModelSpec, specs
from deployments.paths import model_name
from sonograph.compare.inputs import Input

VERSION = 1
"""Version of the code that measures. A change of what a figure means raises it, and everything is measured anew."""
ROLES = {"speech-to-text": "whisper", "text-to-image": "diffusion"}
"""The model's section of the settings by role."""
WITHOUT_EFFECT = {"model", "aliases", "weights", "max_batch", "max_side_px", "max_queue_delay_s", "stall_s"}
"""Settings that change no result of one input alone, or that a checkpoint's identity stands for."""


@dataclass(frozen=True)
class Candidate:
    """A model with its engine and settings."""

    label: str
    """`tiny.en, faster-whisper`."""
    role: str
    model: str
    """A name or a path, as the settings have it."""
    engine: str
    """Empty where the role has one engine."""
    settings: Mapping[str, Any]
    """Of the model's section, as far as they differ from its defaults."""

    @property
    def section(self) -> str:
        return ROLES[self.role]


@dataclass(frozen=True)
class Asked:
    """Resources that each task states."""

    cpus: int = 1
    gpus: float = 0.0
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model's files, as a node has them."""

    identity: str
    """Hash of the content."""
    size_bytes: int


def candidates(role: str, models: Sequence[str], engines: Sequence[str], more: Mapping[str, Any]) -> list[Candidate]:
    """Each model with each engine and the same further settings. Raises ValueError, which names what is wrong.

    `engines`: none for a role with one engine.
    """
    spec = specs()[ROLES[role]]
    default = model_name(_defaults(spec.settings)["model"])
    models = list(dict.fromkeys(map(_whole, models)))
    names = Counter(map(model_name, models))
    found = []
    for model in models:
        name = model_name(model) if names[model_name(model)] == 1 else model
        stated = {} if model == default else {"model": model}  # a default that is a path is another one on each node
        for engine in dict.fromkeys(engines or [""]):
            values = {**more, **stated, **({"engine": engine} if engine else {})}
            label = ", ".join(filter(None, (name, engine)))
            found.append(Candidate(label, role, model, engine, _differing(_section(spec, values, label))))
    return found


def _whole(model: str) -> str:
    """A path on this machine from its root on, since workers have folders of their own; a name as it is."""
    is_path = model.startswith(".") or ("/" in model and os.path.exists(model))
    return os.path.abspath(model) if is_path else model


def key(one: Input, candidate: Candidate, checkpoint: Checkpoint, asked: Asked, language: str, version: int = VERSION) -> str:
    """Hash of all that a result depends on: the content, not its name; the model and its checkpoint; the settings; CPUs and GPUs."""
    parts = {
        "version": version,
        "content": one.sha256,
        "role": candidate.role,
        "model": model_name(candidate.model),
        "checkpoint": checkpoint.identity,
        "settings": {name: value for name, value in candidate.settings.items() if name not in WITHOUT_EFFECT},
        "cpus": asked.cpus,
        "gpus": float(asked.gpus),
        "language": language,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def largest(candidates: Sequence[Candidate], checkpoints: Mapping[str, Checkpoint]) -> Candidate | None:
    """The candidate with the largest checkpoint; of several engines the one that was named first. None without any checkpoint."""
    known = [one for one in candidates if one.label in checkpoints]
    return max(known, key=lambda one: checkpoints[one.label].size_bytes, default=None)


def _section(spec: ModelSpec, values: Mapping[str, Any], label: str) -> ModelSettings:
    try:
        return spec.section(dict(values))
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _differing(section: ModelSettings) -> dict[str, Any]:
    """The settings that are not at their defaults, as JSON has them."""
    defaults = _defaults(type(section))
    return {name: value for name, value in section.model_dump(mode="json").items() if value != defaults[name]}


def _defaults(settings: type[ModelSettings]) -> dict[str, Any]:
    return settings.model_validate({}).model_dump(mode="json")
