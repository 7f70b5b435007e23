"""Timelines of tasks in lanes, drawn with Pillow: groups of rows from the same moment, to one scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.chart import COLOURS, FINE, INK, PALE, font, scaled, ticks

WIDTH, LEFT, RIGHT = 1100, 270, 30
LANE, ROW, GROUP = 22, 26, 30
"""Pixels of a lane, between rows, and of a group's heading."""


@dataclass(frozen=True)
class Row:
    name: str
    note: str
    """Below the name."""
    bars: Sequence[tuple[float, float, int]]
    """Begin and end in seconds, and the lane."""

    @property
    def lanes(self) -> int:
        return max(2, 1 + max(lane for _, _, lane in self.bars))


def draw(path: Path, groups: Mapping[str, Sequence[Row]]) -> None:
    """Draw the rows of each group in the palette's colours."""
    across = ticks(max(end for rows in groups.values() for row in rows for _, end, _ in row.bars))
    height = 20 + sum(GROUP + sum(LANE * row.lanes + ROW for row in rows) for rows in groups.values()) + 30
    image = Image.new("RGB", (WIDTH * FINE, height * FINE), "white")
    canvas = ImageDraw.Draw(image)

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / across[-1]

    for at in across:
        canvas.line(scaled((x(at), 10), (x(at), height - 45)), PALE, FINE)
        canvas.text(scaled((x(at), height - 30))[0], f"{at:g}", INK, font(13), anchor="mm")
    canvas.text(scaled(((LEFT + WIDTH) / 2, height - 12))[0], "seconds since the first task began", INK, font(13), anchor="mm")
    top = 15.0
    for group, rows in groups.items():
        canvas.text(scaled((20, top + GROUP / 2))[0], group, INK, font(15), anchor="lm")
        top += GROUP
        for number, row in enumerate(rows):
            middle = top + row.lanes * LANE / 2
            canvas.text(scaled((LEFT - 12, middle - 9))[0], row.name, INK, font(13), anchor="rm")
            canvas.text(scaled((LEFT - 12, middle + 9))[0], row.note, INK, font(13), anchor="rm")
            for begin, end, lane in row.bars:
                upper = top + lane * LANE
                canvas.rectangle(scaled((x(begin) + 0.7, upper + 2), (x(end) - 0.7, upper + LANE - 2)), COLOURS[number])
            top += row.lanes * LANE + ROW
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((WIDTH, height), Image.Resampling.LANCZOS).save(path)
