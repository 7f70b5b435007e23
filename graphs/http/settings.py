"""The HTTP edge's settings."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from deployments.settings import Section


class HttpSettings(Section):
    max_upload_bytes: int = Field(default=25 * 1024 * 1024, gt=0)
    """Largest recording, in bytes as it is sent."""
    max_audio_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest recording, in seconds of sound."""
    deadline_s: float = Field(default=120.0, gt=0)
    """Longest time for one request, in seconds from its receipt."""
    max_requests: int = Field(default=32, ge=1, le=56)
    """Requests in one ingress at once, waiting ones too; the rest are refused at once.

    Serve hands the ingress at most 64 (its max_ongoing_requests) and lets the rest wait where nobody can refuse them: what is
    left below that is for refusing, and for the probes.
    """
    max_bytes: int = Field(default=256 * 1024 * 1024, gt=0, validate_default=True)
    """Bytes of recordings that one ingress holds at once, at least `max_upload_bytes`; what would be more is refused at once."""
    log_transcripts: bool = False
    """Write what was said into the log's line of each request."""
    whisper_aliases: tuple[str, ...] = ("whisper-1",)
    """Names that clients of /v1 may use for Whisper's model, besides its own."""
    diffusion_aliases: tuple[str, ...] = ("stable-diffusion",)
    """Names that clients of /v1 may use for the diffusion model, besides its own."""
    keys: Path | None = None
    """File of the API keys, a name and a key on each line, read when the ingress starts; without it everyone is served."""
    key_requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests that one key may make in a minute, in each ingress replica; without it as many as there is room for."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the service from a browser, such as `https://example.org`; `*` for all."""

    @field_validator("max_bytes")
    @classmethod
    def _holds_one_recording(cls, max_bytes: int, info: ValidationInfo) -> int:
        largest = info.data.get("max_upload_bytes", 0)  # not there where it was refused itself
        if max_bytes < largest:
            raise ValueError(f"max_bytes must be at least max_upload_bytes, which is {largest}: raise it, or lower that")
        return max_bytes
