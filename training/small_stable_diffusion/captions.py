"""Captions of a picture as a transcript may have them, sampled from templates."""

import random
import re

from training.small_stable_diffusion.concepts import Concept
from training.small_stable_diffusion.templates import (
    ADJECTIVES,
    AFTER,
    BEFORE,
    COLOURS,
    MATERIALS,
    PLACES,
    PLURAL_AS_IS,
    REQUESTS,
    SCENES,
    SHORT,
    SMALL_WORDS,
)


def sample(rng: random.Random, concept: Concept, others: list[Concept], colour: str = "") -> str:
    """Sample one caption. `colour` is that of a turned hue; a plain picture's caption has its own colour or none."""
    return _punctuated(rng, _request(rng, _thing(rng, concept, colour), others))


def sentence(rng: random.Random, concept: Concept, others: list[Concept], colour: str, words: list[str]) -> tuple[str, int]:
    """Sample a caption, or a sentence without a template, and the index of the character after its thing.

    Such a sentence has up to eight words before its thing and up to seven after it: half are small words, and half are of `words`,
    which name no thing. Another thing may follow in some relation to it.
    """
    thing = _thing(rng, concept, colour)
    if rng.random() < 0.3:
        text = _request(rng, thing, others)
        return _punctuated(rng, text), text.index(thing) + len(thing)
    middle = _scene(rng, thing, others) if rng.random() < 0.3 else thing
    before, after = (" ".join(_any_word(rng, words) for _ in range(rng.randrange(most))) for most in (9, 8))
    joint = rng.choice((" ", " ", " ", ", ", ". ")) if before else ""
    text = f"{before}{joint}{middle} {after}".strip()
    return _punctuated(rng, text), len(before + joint + thing)


def _any_word(rng: random.Random, words: list[str]) -> str:
    return rng.choice(SMALL_WORDS if rng.random() < 0.5 else words)


def _thing(rng: random.Random, concept: Concept, colour: str) -> str:
    noun = rng.choice([concept.name] * 3 + list(concept.names))
    if concept.misheard and rng.random() < 0.06:
        noun = rng.choice(concept.misheard)
    return _noun_phrase(rng, noun, _adjectives(rng, concept, colour))


def _request(rng: random.Random, thing: str, others: list[Concept]) -> str:
    kind = rng.random()
    if kind < 0.35:
        text = rng.choice(SHORT).format(x=thing)
    elif kind < 0.75:
        text = rng.choice(REQUESTS).format(x=thing)
    else:
        scene = _scene(rng, thing, others)
        text = rng.choice(REQUESTS).format(x=scene) if rng.random() < 0.5 else scene
    if rng.random() < 0.12:
        text = rng.choice(BEFORE) + rng.choice((", ", " ", ". ")) + text
    if rng.random() < 0.12:
        text += rng.choice((", ", " ", ". ")) + rng.choice(AFTER)
    return text


def _scene(rng: random.Random, thing: str, others: list[Concept]) -> str:
    return rng.choice(SCENES).format(
        x=thing,
        place=rng.choice(PLACES),
        other=rng.choice(rng.choice(others).names[:2]),
        material=rng.choice(MATERIALS),
        adjective=rng.choice(ADJECTIVES),
    )


def unrelated_words(words: list[str], concepts: list[Concept]) -> list[str]:
    """The words that name no concept; a fifth of them are parts of names, such as "world" without "map"."""
    names = [name.lower() for concept in concepts for name in (*concept.names, *concept.misheard)]
    parts = {word for name in names for word in name.split()}
    others = [word for word in words if word not in parts and word.removesuffix("s") not in parts]
    alone = sorted(word for word in parts if word not in names and word.removesuffix("s") not in names)
    return others + alone * (len(others) // (4 * len(alone)))


def _adjectives(rng: random.Random, concept: Concept, colour: str) -> list[str]:
    words = [rng.choice(ADJECTIVES)] if rng.random() < 0.2 else []
    if colour:
        words.append(colour)
    elif concept.colour:
        words += [concept.colour] if rng.random() < 0.25 else []
    elif rng.random() < 0.12:
        words.append(rng.choice(COLOURS))
    return words


def _noun_phrase(rng: random.Random, noun: str, adjectives: list[str]) -> str:
    many = bool(PLURAL_AS_IS.search(noun))
    draw = rng.random()
    if many:
        determiner = rng.choice(("", "", "some", "the", "a pair of", "my", "a"))
    elif draw < 0.1:
        noun, determiner = plural(noun), rng.choice(("", "some", "two", "three", "many", "the"))
    else:
        determiner = "a" if draw < 0.7 else rng.choice(("", "", "the", "some", "my", "one", "that", "another"))
    phrase = " ".join([*adjectives, noun])
    if determiner == "a" and phrase[0] in "aeiou":
        determiner = "an"
    return f"{determiner} {phrase}".strip()


def plural(noun: str) -> str:
    """The plural of the head noun: bowls of rice, foxes, strawberries, ..."""
    head, of, rest = noun.partition(" of ")
    if re.search(r"(s|x|z|ch|sh)$", head):
        head += "es"
    elif re.search(r"[^aeiou]y$", head):
        head = head[:-1] + "ies"
    else:
        head += "s"
    return head + of + rest


def _punctuated(rng: random.Random, text: str) -> str:
    """The text with a transcript's punctuation. The tokenizer lowers its case."""
    text = re.sub(" please$", rng.choice((" please", ", please")), text)
    return text + rng.choice((".", ".", ".", "", "", "!", "?", "..."))
