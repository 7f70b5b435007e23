"""The HTTP edge's settings."""

from pydantic import Field

from deployments.settings import Section


class HttpSettings(Section):
    max_upload_bytes: int = Field(default=25 * 1024 * 1024, gt=0)
    """Largest recording, in bytes as it is sent."""
    max_audio_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest recording, in seconds of sound."""
    deadline_s: float = Field(default=120.0, gt=0)
    """Longest time for one request, in seconds from its receipt."""
