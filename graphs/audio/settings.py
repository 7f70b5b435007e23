"""Settings of recordings: their longest duration, and the processes that decode them."""

from pydantic import Field

from deployments.settings import Section


class AudioSettings(Section):
    max_duration_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest recording, in seconds of sound."""
    decode_workers: int = Field(default=1, ge=1, le=64)
    """Processes of each ingress replica that decode recordings and find speech in them, one recording at a time; further ones wait."""
    decode_cpu_s: float = Field(default=2.0, gt=0)
    """CPU that one recording may take there, in seconds; beyond it the process is ended, and the recording refused."""
    decode_cpu_s_per_s: float = Field(default=0.1, ge=0)
    """CPU seconds for each second of sound, besides `decode_cpu_s`."""
