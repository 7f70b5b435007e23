"""One settings root for each graph, made of the sections that its rooms own. Serve passes it as the application's `args`."""

from pydantic import Field

from deployments.diffusion import DiffusionSettings
from deployments.settings import Section
from deployments.whisper import WhisperSettings
from graphs.http.settings import HttpSettings


class VoiceToImageSettings(Section):
    http: HttpSettings = Field(default_factory=HttpSettings)
    """The HTTP edge: limits and the deadline."""
    whisper: WhisperSettings = Field(default_factory=WhisperSettings)
    """Speech to text."""
    diffusion: DiffusionSettings = Field(default_factory=DiffusionSettings)
    """Text to image."""
