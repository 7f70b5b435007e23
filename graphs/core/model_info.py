"""What the edge says of the models behind it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Served:
    whisper: str
    """The model's name, as answers give it."""
    diffusion: str
    max_side_px: int
    """Bounds the width and height that a request may name."""
