"""The things that the small model can draw, as committed in concepts.json: what the trainer, the evaluation and the tests all read."""

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PIPELINE = HERE.parents[1] / "deployments" / "diffusion" / "small-stable-diffusion"
"""What ships; its name is the model's name in answers."""
FINGERPRINTS = HERE / "fingerprints.safetensors"
"""Of the training pictures, for the tests alone."""
CACHE = Path.home() / ".cache" / "sonograph-training"
"""Pictures and checkpoints; the commands take another place as `--cache`."""

HUES_DEGREES = {"red": 0, "orange": 28, "yellow": 48, "green": 120, "blue": 212, "purple": 275, "pink": 328}
"""Colours that a picture can be turned to by its hue alone."""


@dataclass(frozen=True)
class Concept:
    """`code` names the picture (its emoji's code points); `heard` is what a transcript may say instead; `colour` is its own,
    given where its hue may be turned."""

    name: str
    also: tuple[str, ...]
    category: str
    code: str
    heard: tuple[str, ...] = ()
    colour: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.also)


def load_concepts(path: Path = HERE / "concepts.json") -> list[Concept]:
    rows = json.loads(path.read_text())
    return [Concept(**row | {"also": tuple(row["also"]), "heard": tuple(row.get("heard", ()))}) for row in rows]
