"""The things that the small model can draw, from concepts.json, for the training, the evaluation and the tests."""

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PIPELINE = HERE.parents[1] / "deployments" / "diffusion" / "small-stable-diffusion"
"""The pipeline that ships; its folder's name is the model's name in answers."""
FINGERPRINTS = HERE / "fingerprints.safetensors"
"""Fingerprints of the training pictures, for the tests alone."""
CACHE = Path.home() / ".cache" / "sonograph-training"
"""Pictures and checkpoints; `--cache` names another folder."""

HUES_DEGREES = {"red": 0, "orange": 28, "yellow": 48, "green": 120, "blue": 212, "purple": 275, "pink": 328}
"""Colours that a picture can get by a turn of its hue alone."""


@dataclass(frozen=True)
class Concept:
    """A thing, its names and its picture.

    `code` names the picture (its emoji's code points); `misheard` are words that a transcript may have instead; `colour` is the
    picture's own, where its hue may be turned.
    """

    name: str
    also: tuple[str, ...]
    category: str
    code: str
    misheard: tuple[str, ...] = ()
    colour: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.also)


def load_concepts(path: Path = HERE / "concepts.json") -> list[Concept]:
    rows = json.loads(path.read_text())
    return [Concept(**row | {"also": tuple(row["also"]), "misheard": tuple(row.get("misheard", ()))}) for row in rows]
