"""Settings of recordings: the bound of their duration."""

from pydantic import Field

from deployments.settings import Section


class AudioSettings(Section):
    max_duration_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest recording, in seconds of sound."""
