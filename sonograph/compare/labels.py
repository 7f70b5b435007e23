"""Texts, numbers and marks of a comparison's page: what it shows of a name from outside, and the colour of a candidate."""

import html
import math
from collections.abc import Sequence

from sonograph.terminal import JOINERS

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a")
"""Okabe and Ito's colour-blind safe palette, with a grey for its yellow and black, which one of the two backgrounds swallows."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star")
"""Marks, of which each takes the next one when the colours begin anew."""
LABEL_CHARS = 40


def shown(text: str, most: int = 160) -> str:
    """Return a text from outside for HTML and for plotly's labels, which read tags and entities too: one line, at most `most` characters.

    What cannot be seen, such as a change of the writing's direction, becomes U+FFFD."""
    line = " ".join(text[: 4 * most].split())
    seen = "".join(one if one.isprintable() or one in JOINERS else "\ufffd" for one in line)
    cut = seen if len(seen) <= most else f"{seen[: most - 1]}…"
    return html.escape(cut).replace("&quot;", "&#34;")  # of named entities plotly knows few


def number(value: float | None, unit: str = "") -> str:
    """Return three digits and the unit, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}{unit}"


def percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value * 100:.1f}%"


def memory(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def percentile(values: Sequence[float], share: float) -> float:
    """Return one of the values, by nearest rank."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def symbol(place: int) -> str:
    return SYMBOLS[place // len(COLOURS) % len(SYMBOLS)]


def two_lines(candidate: str) -> str:
    """Return a candidate's label for an axis, model over engine."""
    return "<br>".join(shown(part, LABEL_CHARS) for part in candidate.rsplit(", ", 1))
