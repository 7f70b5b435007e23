"""What people may say for a picture: captions as a transcript would have them, sampled from templates; runs in training only."""

import random
import re

from deployments.diffusion.builtin.concepts import HUES_DEGREES, Concept

SHORT = (
    "{x}",
    "{x}",
    "{x}",
    "a picture of {x}",
    "an image of {x}",
    "{x} please",
    "just {x}",
    "a drawing of {x}",
    "one picture of {x}",
)
REQUESTS = (
    "draw me {x} please",
    "draw me {x}",
    "draw {x}",
    "please draw {x}",
    "please draw me {x}",
    "can you draw {x}",
    "could you please draw {x}",
    "i want to see {x}",
    "i would like to see {x}",
    "i'd like {x}",
    "i want {x}",
    "show me {x}",
    "please show me {x}",
    "give me {x} please",
    "make me a picture of {x}",
    "make {x} for me",
    "create an image of {x}",
    "generate a picture of {x}",
    "what does {x} look like",
    "how about {x}",
    "this is {x}",
    "there is {x}",
    "look there's {x}",
    "i am thinking of {x}",
    "now draw {x}",
    "okay so {x} please",
    "hello can i have {x} please",
    "paint me {x}",
    "sketch {x}",
    "let's try {x}",
)
SCENES = (
    "{x} on a {place}",
    "{x} in the {place}",
    "{x} sitting on a {other}",
    "{x} lying on the {place}",
    "{x} next to a {other}",
    "{x} and a {other}",
    "{x} with a {other}",
    "{x} in front of a {other}",
    "{x} under the {other}",
    "{x} flying to the {other}",
    "{x} flying over the {place}",
    "{x} running through the {place}",
    "{x} driving down the {place}",
    "{x} eating a {other}",
    "{x} looking at a {other}",
    "{x} playing with a {other}",
    "{x} beside the {other}",
    "{x} made of {material}",
    "{x} at night",
    "{x} in the rain",
    "{x} on a sunny day",
    "{x} on the table",
    "{x} in the garden",
    "{x} that is very {adjective}",
    "{x} for my birthday",
    "{x} for my daughter",
    "{x} with a white background",
    "{x} wearing a {other}",
)
BEFORE = (
    "hello there",
    "okay",
    "um",
    "so",
    "hi",
    "well i was wondering",
    "i have been thinking about this all day",
    "my son asked for it",
    "let me think",
    "good morning",
    "listen",
    "one more thing",
    "if it is not too much trouble",
    "when you have a moment",
)
AFTER = (
    "thank you",
    "thanks a lot",
    "if you can",
    "right now",
    "that would be great",
    "as nicely as you can",
    "because i like it so much",
    "for the wall in my room",
    "it is for my grandmother",
    "that is all",
    "and make it look good",
    "like in a children's book",
)
PLACES = (
    "street",
    "beach",
    "field",
    "forest",
    "kitchen",
    "table",
    "floor",
    "sofa",
    "hill",
    "road",
    "park",
    "sky",
    "water",
    "sea",
    "moon",
    "city",
)
MATERIALS = ("wood", "gold", "paper", "stone", "glass", "ice", "metal", "chocolate")
ADJECTIVES = [
    "small",
    "big",
    "little",
    "large",
    "tiny",
    "huge",
    "cute",
    "funny",
    "beautiful",
    "pretty",
    "nice",
    "lovely",
    "happy",
    "sad",
    "old",
    "new",
    "young",
    "shiny",
    "fresh",
    "delicious",
    "tasty",
    "simple",
    "colorful",
    "bright",
    "dark",
    "fast",
    "strong",
    "fat",
    "tall",
    "short",
    "round",
    "friendly",
    "cool",
    "soft",
    "warm",
    "cold",
    "real",
    "single",
    "magical",
]
COLOURS = (*HUES_DEGREES, "black", "white", "brown", "grey", "gray", "golden", "silver")
PLURAL_AS_IS = re.compile(
    r"(grapes|cherries|blueberries|peanuts|scissors|glasses|sunglasses|jeans|shorts|fries|pancakes|chips|noodles|scales|swords|chains"
    r"|bubbles|books|bags|socks|gloves|shoes|headphones|maracas|skis|eyes|lungs|lips|footprints|leaves|sparkles|chopsticks|fireworks"
    r"|masks|dolls|slippers|pants|trousers|tracks|lights|stairs|bricks|drums|pins|bills|banknotes|heels|skates|flowers|thumbs up"
    r"|scissors|dice|money|cash)$"
)


def sample(rng: random.Random, concept: Concept, others: list[Concept], colour: str = "") -> str:
    """One caption. `colour` is what the picture's hue was turned to; a plain one may be called by its own colour or by none."""
    names = [concept.name] * 3 + list(concept.names)
    noun = rng.choice(names)
    if concept.heard and rng.random() < 0.06:
        noun = rng.choice(concept.heard)
    thing = _noun_phrase(rng, noun, _adjectives(rng, concept, colour))
    kind = rng.random()
    if kind < 0.35:
        text = rng.choice(SHORT).format(x=thing)
    elif kind < 0.75:
        text = rng.choice(REQUESTS).format(x=thing)
    else:
        scene = rng.choice(SCENES).format(
            x=thing,
            place=rng.choice(PLACES),
            other=rng.choice(rng.choice(others).names[:2]),
            material=rng.choice(MATERIALS),
            adjective=rng.choice(ADJECTIVES),
        )
        text = rng.choice(REQUESTS).format(x=scene) if rng.random() < 0.5 else scene
    if rng.random() < 0.12:
        text = rng.choice(BEFORE) + rng.choice((", ", " ", ". ")) + text
    if rng.random() < 0.12:
        text += rng.choice((", ", " ", ". ")) + rng.choice(AFTER)
    return _written(rng, text)


def among_strangers(rng: random.Random, text: str, words: list[str]) -> str:
    """The caption with up to six other words before it and behind it, whatever they are: those of a sentence that no template has."""
    before, after = (" ".join(rng.choices(words, k=rng.randrange(7))) for _ in range(2))
    return f"{before} {text} {after}".strip()


def strangers(words: list[str], concepts: list[Concept]) -> list[str]:
    """The words that name none of the concepts, in whole or in part."""
    named = {word for concept in concepts for name in (*concept.names, *concept.heard) for word in name.lower().split()}
    return [word for word in words if word not in named and word.removesuffix("s") not in named]


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
    """Of the head: bowls of rice, foxes, strawberries, ..."""
    head, of, rest = noun.partition(" of ")
    if re.search(r"(s|x|z|ch|sh)$", head):
        head += "es"
    elif re.search(r"[^aeiou]y$", head):
        head = head[:-1] + "ies"
    else:
        head += "s"
    return head + of + rest


def _written(rng: random.Random, text: str) -> str:
    """Punctuation as transcripts have it; case needs none, the tokenizer lowers it."""
    text = re.sub(" please$", rng.choice((" please", ", please")), text)
    return text + rng.choice((".", ".", ".", "", "", "!", "?", "..."))
