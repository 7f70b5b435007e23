"""Values of options that several commands take, as people write them. Each function raises typer.BadParameter."""

import re
from typing import Any

import typer
import yaml

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """A time of `30s`, `10m`, `2h`, `1d`, `1h30m`; a number alone is in seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise typer.BadParameter(f"{text} is no time: write 30s, 10m or 2h")
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def settings(pairs: list[str]) -> dict[str, Any]:
    """The settings of `KEY=VALUE`, each value in YAML: a number, true, a text, a list."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair or not name:
            raise typer.BadParameter(f"{pair} sets nothing: write model=small.en")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"the value of {name} is no YAML: quote it, as in '{name}=\"{value}\"'") from error
    return found
