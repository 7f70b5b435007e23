"""Line and bar charts, drawn with Pillow: panels side by side with one legend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's colour-blind safe palette; the marks differ too."""
INK, PALE = "#222222", "#dddddd"
FINE = 3
"""Supersampling factor, for smooth lines."""
WIDTH, HEIGHT = 660, 470
"""Of a panel, in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 95, 75
NAMES = 120
"""Pixels left of the bars for their names."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    lines: Sequence[Sequence[Point]]
    """In the legend's order."""
    level: float | None = None
    """Height of a dashed horizontal line."""


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    of: int
    """Its place in the legend."""


@dataclass(frozen=True)
class Bars:
    title: str
    bars: Sequence[Bar]
    """From top to bottom."""


def draw(path: Path, legend: Sequence[str], panels: Sequence[Panel | Bars]) -> None:
    image = Image.new("RGB", (WIDTH * len(panels) * FINE, HEIGHT * FINE), "white")
    canvas = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        if isinstance(panel, Bars):
            _draw_bars(canvas, number * WIDTH, panel)
        else:
            _PanelPainter(canvas, number * WIDTH, panel).draw()
    x = float(LEFT)
    for number, name in enumerate(legend):
        canvas.line(scaled((x, 24), (x + 40, 24)), COLOURS[number], 2 * FINE)
        _mark(canvas, x + 20, 24, number)
        canvas.text(scaled((x + 50, 24))[0], name, INK, font(15), anchor="lm")
        x += 50 + canvas.textlength(name, font(15)) / FINE + 40
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((WIDTH * len(panels), HEIGHT), Image.Resampling.LANCZOS).save(path)


class _PanelPainter:
    """One panel and its scales."""

    def __init__(self, canvas: ImageDraw.ImageDraw, offset_px: float, panel: Panel) -> None:
        self._canvas = canvas
        self._panel = panel
        self._left, self._right = offset_px + LEFT, offset_px + WIDTH - RIGHT
        points = [point for line in panel.lines for point in line if math.isfinite(point[1])]
        self._xs = ticks(max((x for x, _ in points), default=1.0))
        self._ys = ticks(max([y for _, y in points] + [panel.level or 0.0], default=1.0))

    def draw(self) -> None:
        canvas, panel = self._canvas, self._panel
        bottom = HEIGHT - BOTTOM
        middle = (self._left + self._right) / 2
        canvas.text(scaled((middle, TOP - 28))[0], panel.title, INK, font(17), anchor="mm")
        canvas.text(scaled((middle, HEIGHT - 25))[0], panel.x, INK, font(14), anchor="mm")
        for y in self._ys:
            canvas.line(scaled(self._at((0, y)), self._at((self._xs[-1], y))), PALE, FINE)
            canvas.text(scaled((self._left - 10, self._at((0, y))[1]))[0], f"{y:g}", INK, font(13), anchor="rm")
        for x in self._xs:
            canvas.text(scaled((self._at((x, 0))[0], bottom + 18))[0], f"{x:g}", INK, font(13), anchor="mm")
            canvas.line(scaled((self._at((x, 0))[0], bottom), (self._at((x, 0))[0], bottom + 5)), INK, FINE)
        canvas.line(scaled((self._left, bottom), (self._right, bottom)), INK, FINE)
        if panel.level is not None:
            y = self._at((0, panel.level))[1]
            for x in range(int(self._left), int(self._right), 14):
                canvas.line(scaled((x, y), (min(x + 8, self._right), y)), "#888888", FINE)
        for number, line in enumerate(panel.lines):
            places = [self._at(point) for point in line if math.isfinite(point[1])]
            canvas.line(scaled(*places), COLOURS[number], 2 * FINE, joint="curve")
            for x, y in places:
                _mark(canvas, x, y, number)

    def _at(self, point: Point) -> Point:
        """Return the point's place on the canvas, in pixels."""
        x, y = point[0] / self._xs[-1], point[1] / self._ys[-1]
        return self._left + x * (self._right - self._left), HEIGHT - BOTTOM - y * (HEIGHT - BOTTOM - TOP)


def _draw_bars(canvas: ImageDraw.ImageDraw, offset_px: float, panel: Bars) -> None:
    left, right, bottom = offset_px + NAMES, offset_px + WIDTH - RIGHT, HEIGHT - BOTTOM / 2
    canvas.text(scaled(((left + right) / 2, TOP - 28))[0], panel.title, INK, font(17), anchor="mm")
    scale = (right - left - 60) / max(bar.value for bar in panel.bars)
    row = (bottom - TOP) / len(panel.bars)
    for number, bar in enumerate(panel.bars):
        top, end = TOP + number * row + row / 6, left + bar.value * scale
        middle = top + row / 3
        canvas.rectangle(scaled((left, top), (end, top + row * 2 / 3)), COLOURS[bar.of])
        canvas.text(scaled((left - 10, middle))[0], bar.name, INK, font(14), anchor="rm")
        canvas.text(scaled((end + 10, middle))[0], f"{bar.value:.2f}", INK, font(14), anchor="lm")


def ticks(highest: float) -> list[float]:
    """Return four to ten ticks from 0 up to the first not below `highest`, in steps of 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _mark(canvas: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
    box = scaled((x - 5, y - 5), (x + 5, y + 5))
    shape = canvas.rectangle if number % 2 else canvas.ellipse
    shape(box, COLOURS[number])


def scaled(*points: Point) -> list[Point]:
    return [(x * FINE, y * FINE) for x, y in points]


def font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * FINE)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
