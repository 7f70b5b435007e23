"""Values of a rollout's options: percentages, multiples, resources. Each function raises typer.BadParameter."""

import re

import typer

NONE = "none"
"""Text that switches a budget off."""


def percent(text: str) -> float:
    """Percent of the requests, 0 to 100: `5` or `5%`."""
    value = _number(text.removesuffix("%"), f"{text} is no percentage: write 5 or 5%")
    if not 0 <= value <= 100:
        raise typer.BadParameter(f"{text} is not between 0 and 100 percent")
    return value


def share(text: str) -> float | str:
    """A part of one: `1%` or `0.01`; `none` switches the budget off."""
    if text == NONE:
        return text
    sentence = f"{text} is no part: write 1% or 0.01, or {NONE}"
    value = _number(text.removesuffix("%"), sentence) / (100 if text.endswith("%") else 1)
    if not 0 < value <= 1:
        more = f": 1% is 0.01, and {text} would be {value:.0%}" if value > 1 else ""
        raise typer.BadParameter(f"{text} is not above 0% and up to 100%{more}")
    return value


def multiple(text: str) -> float | str:
    """A multiple of the stable model's value: `1.2x` or `1.2`; `none` switches the budget off."""
    if text == NONE:
        return text
    value = _number(text.removesuffix("x"), f"{text} is no multiple: write 1.2x or 1.2, or {NONE}")
    if not 0.1 <= value <= 100:
        raise typer.BadParameter(f"{text} is not between 0.1x and 100x of the stable model")
    return value


def nats(text: str) -> float | str:
    """A fall of the log probability: `0.1`; `none` switches the budget off."""
    if text == NONE:
        return text
    value = _number(text, f"{text} is no number of nats: write 0.1, or {NONE}")
    if value <= 0:
        raise typer.BadParameter(f"{text} is not above 0 nats")
    return value


def steps(text: str) -> tuple[float, ...]:
    """Rising percentages: `5,20,50,100`."""
    found = tuple(percent(part.strip()) for part in text.split(","))
    if list(found) != sorted(set(found)):
        raise typer.BadParameter(f"{text} does not rise: write 5,20,50,100")
    return found


def resources(pairs: list[str]) -> dict[str, float]:
    """Custom resources of `NAME=AMOUNT`."""
    found = {}
    for pair in pairs:
        name, is_pair, amount = pair.partition("=")
        if not is_pair or not name:
            raise typer.BadParameter(f"{pair} names no resource: write whisper=1")
        found[name] = _number(amount, f"{amount} is no amount of {name}: write {name}=1")
    return found


def _number(text: str, sentence: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise typer.BadParameter(sentence)
    return float(text)
