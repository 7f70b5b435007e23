"""Sentences spoken by flite's voices, with their texts in sentences.json.

`python -m testing.speech` makes the recordings again; it needs flite (on Debian and Ubuntu: apt install flite).
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from training.small_stable_diffusion.concepts import load_concepts

HERE = Path(__file__).parent
VOICES = ("slt", "rms")
"""Voices of CMU ARCTIC: a woman and a man, US English."""
SCOTS = "awb"
"""Voice of a man, Scottish English, for error rates of the same sentences."""


PHRASES = (
    "Have a look at the {}.",
    "Where is the {} that you promised?",
    "My neighbour bought the {} yesterday.",
    "Tell me more about the {}.",
    "We both liked the {} best.",
    "Nothing beats the {}.",
    "Last night it was the {} again.",
    "Bring us the {} now.",
    "Everybody here talks about the {}.",
    "Can we have the {} next?",
    "Surprise me with the {}.",
    "Imagine the {}.",
    "It must be the {}.",
    "She asked for the {} twice.",
    "Would you paint the {} for her?",
)
"""Sentences around a concept. None is a template of the small model's training."""


@dataclass(frozen=True)
class Thing:
    """Recording that names one concept of the small model."""

    name: str
    voice: str
    text: str

    @property
    def path(self) -> Path:
        return HERE / "things" / f"{self.name.replace(' ', '-')}-{self.voice}.ogg"


def things() -> list[Thing]:
    """Return thirty concepts, the first of the list shuffled with seed 0, each in every voice. The phrases take turns."""
    names = [concept.name for concept in load_concepts()]
    random.Random(0).shuffle(names)
    return [
        Thing(name, voice, PHRASES[turn % len(PHRASES)].format(name)) for turn, name in enumerate(names[:30]) for voice in VOICES
    ]


def sentences() -> dict[Path, str]:
    """Return the text of each recording."""
    texts: dict[str, str] = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    return {HERE / name: text for name, text in texts.items()}
