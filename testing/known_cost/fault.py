"""Faults of a candidate of known cost, for tests and benchmarks of rollouts. Loads neither Ray nor pydantic."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    slower: float = 1.0
    """Multiple of the time that a request takes."""
    wrong_words: float = 0.0
    """Part of the transcript's words that are others, each by chance, from a fixed seed."""
    fails: float = 0.0
    """Part of the requests that fail."""
    dies_after: int = 0
    """Requests after which the process that holds the model ends itself; 0: it does not."""
    never_starts: bool = False
    other_shape: bool = False
    """Whether it answers with a number where there should be a probability: not finite."""

    def words(self, text: str, chance: random.Random) -> str:
        """The text, its wrong words among it; the spaces stay."""
        return " ".join("wrong" if word and chance.random() < self.wrong_words else word for word in text.split(" "))
