"""Speech to text: Whisper, in one of two engines. The room's door: graphs import these names and nothing below."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deployments.whisper.deployment import Segment, TranscribeOptions, Transcript, Whisper, bind, windows
    from deployments.whisper.settings import WhisperSettings

__all__ = ["Segment", "TranscribeOptions", "Transcript", "Whisper", "WhisperSettings", "bind", "windows"]


def __getattr__(name: str) -> Any:
    """The Triton stub passes here too, on its way to the engine, and must not load Ray: the names are imported when asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deployments.whisper import deployment

    return getattr(deployment, name)
