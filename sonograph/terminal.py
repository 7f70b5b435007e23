"""Texts for a terminal."""

import unicodedata

JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian and emoji are written."""


def printable(text: str) -> str:
    """The text with characters escaped that could steer a terminal or turn the direction of reading."""
    return "".join(character.encode("unicode_escape").decode() if _steers(character) else character for character in text)


def duration(seconds: float) -> str:
    """A time as `45s`, `10m`, `2h30m`."""
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest if not hours else 0, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _steers(character: str) -> bool:
    return character not in JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
