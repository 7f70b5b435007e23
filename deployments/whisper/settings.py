"""Whisper's section of the settings."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from deployments.model_spec import ModelSettings
from deployments.paths import weights_dir
from deployments.whisper.types import Device, Engine, EngineConfig, LongRecordings, Padding, Precision

SUCCESSORS = {
    "padding": {"in doubt": "adaptive"},
    "long_recordings": {"one by one": "sequential", "cut at silence": "chunked"},
}
"""New values of a setting, by the old ones."""


class WhisperSettings(ModelSettings):
    engine: Engine = "openai-whisper"
    """Library that computes: openai-whisper's model in torch, or the same model in CTranslate2, the library of faster-whisper."""
    model: str = "tiny.en"
    """A checkpoint's name (`tiny.en`, `base`, `large-v3`, ... any that openai-whisper knows), or a path to a checkpoint.

    With `faster-whisper` also a folder in CTranslate2's format."""
    aliases: tuple[str, ...] = ("whisper-1",)
    """Further ids by which `/v1` takes the model."""
    weights: Path = Field(default_factory=lambda: weights_dir("whisper"))
    """Folder of the checkpoints; an official one that is not in it is downloaded into it."""
    device: Device = "auto"
    """Device of the model; `auto` takes a GPU if there is one."""
    precision: Precision = "auto"
    """Number format of the computation; `auto` is fp16 on a GPU, and on a CPU fp32 or with `faster-whisper` int8.

    int8 needs `faster-whisper`."""
    max_batch: int = Field(default=8, ge=1, le=64)
    """Most recordings, or chunks of long ones, that share a batch."""
    no_speech_threshold: float = Field(default=0.6, ge=0, le=1)
    """A segment counts as silent above this probability of no speech, if its mean log probability is low as well."""
    logprob_threshold: float = Field(default=-1.0, le=0)
    """A mean log probability of the tokens below this is low."""
    padding: Padding = "always"
    """`always` pads every window to 30 s, as openai-whisper does; `adaptive` pads only where the shorter window gives a doubtful text."""
    long_recordings: LongRecordings = "sequential"
    """More than 30 s: `sequential` decodes window after window, each with the text before it as prompt, as openai-whisper does;
    `chunked` cuts at pauses and decodes the chunks in one batch."""

    def engine_config(self, threads: int = 1) -> EngineConfig:
        """Options of the engine. `threads`: the CPUs that the replica declares."""
        return EngineConfig(
            model=self.model,
            weights=str(self.weights),
            engine=self.engine,
            device=self.device,
            threads=threads,
            precision=self.precision,
            max_batch=self.max_batch,
            padding=self.padding,
            long_recordings=self.long_recordings,
            no_speech_threshold=self.no_speech_threshold,
            logprob_threshold=self.logprob_threshold,
        )

    @field_validator("padding", "long_recordings", mode="before")
    @classmethod
    def _has_its_present_name(cls, value: Any, field: ValidationInfo) -> Any:
        successors = SUCCESSORS[field.field_name or ""]
        if isinstance(value, str) and value in successors:
            raise ValueError(f"{value!r} was renamed: set {field.field_name} to {successors[value]}")
        return value

    @field_validator("precision")
    @classmethod
    def _the_engine_has_it(cls, value: str, others: ValidationInfo) -> str:
        if value == "int8" and others.data.get("engine", "faster-whisper") != "faster-whisper":
            raise ValueError("int8 is computed by faster-whisper alone: set engine to it, or another precision")
        return value
