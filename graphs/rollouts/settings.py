"""Settings of the rollouts: where mirrored requests are kept, and how many."""

from typing import ClassVar

from pydantic import Field, field_validator

from deployments.settings import Section


class RolloutSettings(Section):
    RENAMED: ClassVar = {
        "samples": "rollouts.samples_folder",
        "samples_bytes": "rollouts.max_samples_bytes",
        "samples_age_s": "rollouts.max_samples_age_s",
    }

    samples_folder: str | None = None
    """Folder for mirrored requests, both results and their scores, where a rollout asks for them; an fsspec URL such as `s3://bucket/folder`
    needs the extra `s3`. Without it none is kept.
    """
    max_samples_bytes: int = Field(default=1024**3, gt=0)
    """Bytes of them, at most; the oldest are removed."""
    max_samples_age_s: float = Field(default=7 * 86400.0, gt=0)
    """Age at which one is removed, in seconds."""

    @field_validator("samples_folder")
    @classmethod
    def _is_absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not folder.startswith("/") and "://" not in folder:
            raise ValueError(f"rollouts.samples_folder is {folder!r}: name the whole path, or a URL")
        return folder
