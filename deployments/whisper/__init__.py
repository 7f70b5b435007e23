"""Speech to text: openai-whisper."""

from deployments.whisper.deployment import Segment, TranscribeOptions, Transcript, Whisper, bind
from deployments.whisper.settings import WhisperSettings

__all__ = ["Segment", "TranscribeOptions", "Transcript", "Whisper", "WhisperSettings", "bind"]
