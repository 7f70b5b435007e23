"""The HTTP edge's settings."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator

from deployments.settings import Section


class HttpSettings(Section):
    RENAMED: ClassVar = {
        "max_requests": "http.max_concurrent_requests",
        "max_bytes": "http.max_buffered_bytes",
        "keys": "http.api_keys_file",
        "max_audio_s": "audio.max_duration_s",
        "log_transcripts": "logging.transcripts",
        "whisper_aliases": "whisper.aliases",
        "diffusion_aliases": "diffusion.aliases",
    }

    max_upload_bytes: int = Field(default=25 * 1024 * 1024, gt=0)
    """Largest recording, in bytes as it is sent."""
    deadline_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    """Longest time for one request, in seconds from its receipt."""
    max_concurrent_requests: int = Field(default=32, ge=1)
    """Requests whose body is whole in one ingress replica at the same time, waiting ones included, one of `n` pictures as `n`; the rest are
    refused at once."""
    max_concurrent_uploads: int = Field(default=128, ge=1)
    """Requests whose body is on its way to one ingress replica. One more takes the place of the slowest, if that one has fallen behind
    by a tenth of `body_idle_timeout_s`, and is refused otherwise.
    """
    body_idle_timeout_s: float = Field(default=10.0, gt=0)
    """Longest time without a byte of a body that is not whole, in seconds."""
    min_body_bytes_per_s: int = Field(default=500, ge=1)
    """Least rate of a body, on average from its start, after `body_idle_timeout_s`."""
    max_buffered_bytes: int = Field(default=256 * 1024 * 1024, gt=0, validate_default=True)
    """Bytes of recordings that one ingress replica holds at the same time, at least `max_upload_bytes`; a request beyond it is
    refused at once."""
    api_keys_file: Path | None = None
    """File of the API keys, a name and a key on each line, and `operator` behind those that may change rollouts, and read traces and
    `GET /graph`; read again when it changes; without it no key is needed.
    """
    key_requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests that one key may make in a minute, in each ingress replica; without it there is no such bound."""
    key_max_concurrent_requests: int | None = Field(default=None, ge=1)
    """Requests that one key may have in one ingress replica at the same time, uploads included, one of `n` pictures as `n`; without
    it one key may take every place."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the service from a browser, such as `https://example.org`; `*` for all."""
    trusted_hosts: tuple[str, ...] = ()
    """Names besides localhost that Host may have on a connection over loopback: those that a proxy on this machine, or a sidecar,
    forwards; `*` for all."""
    show_graph: bool = False
    """Answer `GET /graph` for every client, not for operators alone: it names nodes and resources, and queries Serve's controller."""

    @field_validator("key_requests_per_minute", "key_max_concurrent_requests")
    @classmethod
    def _has_keys_to_count(cls, bound: int | None, info: ValidationInfo) -> int | None:
        if bound is not None and info.data.get("api_keys_file") is None:
            raise ValueError(f"{info.field_name} bounds each key, and there are none: set http.api_keys_file, or leave it out")
        return bound

    @field_validator("max_buffered_bytes")
    @classmethod
    def _holds_one_recording(cls, max_buffered_bytes: int, info: ValidationInfo) -> int:
        largest = info.data.get("max_upload_bytes", 0)  # absent where it was refused itself
        if max_buffered_bytes < largest:
            raise ValueError(f"max_buffered_bytes must be at least max_upload_bytes, which is {largest}: raise it, or lower that")
        return max_buffered_bytes
