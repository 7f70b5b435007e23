"""Options of `sonograph compare`, read and checked. Each function raises typer.BadParameter."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import typer
import yaml

from sonograph.option_values import settings

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
SMALLEST_BYTES = 1 << 20
LONGEST_S = 7 * 86400.0


def listed(text: str) -> list[str]:
    """Names between commas: `tiny.en,base`."""
    found = [name for part in text.split(",") if (name := part.strip())]
    if not found:
        raise typer.BadParameter(f"{text!r} names nothing: write names with commas between them, such as tiny.en,base")
    return found


def memory(text: str) -> int:
    """Bytes of `2GiB`, `1500MB` or `800M`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip(), re.IGNORECASE)
    if not found:
        raise typer.BadParameter(f"{text} is no size: write 2GiB or 800M")
    size_bytes = int(float(found[1]) * UNITS[(found[2] or "").upper()])
    if size_bytes < SMALLEST_BYTES:
        raise typer.BadParameter(f"{text} is less than 1 MiB: write 2GiB or 800M")
    return size_bytes


def duration(text: str) -> float:
    """Seconds of `30s`, `10m`, `2h`: more than none, at most a week."""
    from sonograph.option_values import seconds

    found = seconds(text)
    if not 0 < found <= LONGEST_S:
        raise typer.BadParameter(f"{text} is not between 0 and 7 days")
    return found


def further_settings(file: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Settings of a YAML file, and over them those of `name=value`."""
    found: Any = {}
    if file is not None:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise typer.BadParameter(f"{file} cannot be read as YAML: {error}", param_hint="--settings") from error
        if not isinstance(found, dict):
            raise typer.BadParameter(f"{file} has to be a mapping, such as `padding: adaptive`", param_hint="--settings")
    both: dict[str, Any] = {**found, **settings(pairs)}
    for name, option in (("model", "--models"), ("engine", "--engines")):
        if name in both:
            raise typer.BadParameter(f"{name} is what is compared: give it by {option}", param_hint="--set")
    return both


def require_scores() -> None:
    """End the command where word errors cannot be counted."""
    if importlib.util.find_spec("jiwer") is None:
        raise typer.BadParameter("word errors are counted by jiwer, which is not installed: pip install 'sonograph[compare]'")
