"""The configuration of Whisper's engine. Its request and results are those of the role, `deployments.roles.speech_to_text`."""

from dataclasses import dataclass
from typing import Literal

Engine = Literal["openai-whisper", "faster-whisper"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Padding = Literal["adaptive", "always"]
LongRecordings = Literal["sequential", "chunked"]


@dataclass(frozen=True)
class EngineConfig:
    """Options of `WhisperEngine`, which the deployment makes from its settings."""

    model: str
    """A checkpoint's name or path; with `faster-whisper` also a folder in CTranslate2's format."""
    weights: str
    """Folder of the checkpoints; an official one that is not in it is downloaded into it."""
    engine: Engine = "openai-whisper"
    device: Device = "auto"
    threads: int = 1
    """torch's, in this whole process, and CTranslate2's."""
    precision: Precision = "auto"
    """`auto` is fp16 on a GPU, and on a CPU fp32 or with `faster-whisper` int8."""
    max_batch: int = 8
    """Most rows of one step."""
    padding: Padding = "always"
    """`always` to 30 s, as openai-whisper does, or `adaptive`, see `adaptive_padding`."""
    long_recordings: LongRecordings = "sequential"
    """More than 30 s: window after window, as openai-whisper does, or `chunked` at pauses into rows of one batch."""
    no_speech_threshold: float = 0.6
    logprob_threshold: float = -1.0
