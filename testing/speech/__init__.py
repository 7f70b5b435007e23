"""Spoken sentences by flite's voices, and what they say in sentences.json.

    python -m testing.speech

makes them anew; it needs flite (on Debian and Ubuntu: apt install flite).
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from training.small_stable_diffusion.concepts import load_concepts

HERE = Path(__file__).parent
VOICES = ("slt", "rms")
"""CMU ARCTIC's: a woman's and a man's, US English."""
SCOTS = "awb"
"""A man's, Scottish English: the same sentences, for error rates."""


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
"""None is a template of the small model's training."""


@dataclass(frozen=True)
class Thing:
    """A recording that names one thing of the small model's list."""

    name: str
    voice: str
    text: str

    @property
    def path(self) -> Path:
        return HERE / "things" / f"{self.name.replace(' ', '-')}-{self.voice}.ogg"


def things() -> list[Thing]:
    """Thirty by lot, none replaced: the first of the list shuffled with seed 0; phrases take turns, and each voice says all."""
    names = [concept.name for concept in load_concepts()]
    random.Random(0).shuffle(names)
    return [
        Thing(name, voice, PHRASES[turn % len(PHRASES)].format(name)) for turn, name in enumerate(names[:30]) for voice in VOICES
    ]


def sentences() -> dict[Path, str]:
    """What each recording says."""
    said: dict[str, str] = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    return {HERE / name: text for name, text in said.items()}
