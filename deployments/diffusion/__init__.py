"""Text to image: Stable Diffusion, by diffusers. The room's door: graphs import these names and nothing below."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deployments.diffusion.deployment import Diffusion, GenerateOptions, Image, Preview, Step, bind
    from deployments.diffusion.settings import DiffusionSettings

__all__ = ["Diffusion", "DiffusionSettings", "GenerateOptions", "Image", "Preview", "Step", "bind"]


def __getattr__(name: str) -> Any:
    """The Triton stub passes here too, on its way to the engine, and must not load Ray: the names are imported when asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deployments.diffusion import deployment

    return getattr(deployment, name)
