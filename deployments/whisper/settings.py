"""The Whisper room's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from deployments.paths import weights_dir
from deployments.settings import Section


class WhisperSettings(Section):
    engine: Literal["openai-whisper", "faster-whisper"] = "openai-whisper"
    """What computes: openai-whisper's model in torch, or the same in CTranslate2, which faster-whisper runs on."""
    model: str = "tiny.en"
    """A checkpoint's name (`tiny.en`, `base`, `large-v3`, ... any that openai-whisper knows), or a path to a checkpoint.

    With `faster-whisper` also a folder in CTranslate2's format."""
    weights: Path = Field(default_factory=lambda: weights_dir("whisper"))
    """Folder of the checkpoints that set-up converted; an official name that is not in it is downloaded into it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """What it computes in; `auto` is fp16 on a GPU, and on a CPU fp32 or with `faster-whisper` int8, which only that has."""
    max_batch: int = Field(default=8, ge=1, le=64)
    """Most recordings, or pieces of long ones, that are heard in one pass of the model."""
    no_speech_threshold: float = Field(default=0.6, ge=0, le=1)
    """A segment counts as silent above this probability of no speech, if it was also decoded without confidence."""
    logprob_threshold: float = Field(default=-1.0, le=0)
    """Decoded without confidence means a mean log probability of its tokens below this."""
    padding: Literal["in doubt", "always"] = "always"
    """Whether what is shorter than 30 s is filled up: as openai-whisper does, or only where the model doubts or repeats itself without."""
    long_recordings: Literal["one by one", "cut at silence"] = "one by one"
    """How more than 30 s are heard: as openai-whisper does, each window after what was said in the one before; or in pieces, together."""
    stall_s: float = Field(default=300.0, gt=0)
    """A replica that has worked for so many seconds without one answer counts as dead and is replaced."""

    @field_validator("precision")
    @classmethod
    def _the_engine_has_it(cls, value: str, others: ValidationInfo) -> str:
        if value == "int8" and others.data.get("engine", "faster-whisper") != "faster-whisper":
            raise ValueError("int8 is computed by faster-whisper alone: set engine to it, or another precision")
        return value
