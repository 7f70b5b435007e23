"""Settings of the ingress's log."""

from typing import Literal

from pydantic import Field, field_validator

from deployments.settings import Section


class LoggingSettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level of a line of the ingress's log. A request's line has ERROR for a defect (500), WARNING where the service refused it or
    a replica died (503), and INFO otherwise.
    """
    access: bool = True
    """Write a line for each request."""
    transcripts: bool = False
    """Write the transcript into each request's line."""
    output: str | None = Field(default=None, max_length=4096)
    """Device or pipe for the lines of requests and rollouts, and for other lines from WARNING on, such as `/proc/1/fd/1`, a container's
    standard output. Without it they are in Ray's file of the replica alone, which has every line in any case.
    """

    @field_validator("output")
    @classmethod
    def _is_absolute(cls, output: str | None) -> str | None:
        if output is not None and not output.startswith("/"):
            raise ValueError(f"logging.output is {output!r}: name the whole path, such as /proc/1/fd/1")
        return output
