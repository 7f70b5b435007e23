"""A dashboard of Grafana's JSON model, drawn with Pillow: each panel in its place, from a Prometheus' answers to its queries."""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageColor, ImageDraw

from benchmarks import chart
from testing.prometheus import Prometheus

COLUMN_PX, ROW_PX = 54, 36
"""A cell of Grafana's grid."""
COLUMNS = 24
LEFT, TOP, RIGHT, LINE = 66, 38, 28, 19
"""Margins of a graph in its panel, and the height of a line of text, in pixels."""
POINTS = 60
"""Of a series."""
COLOURS = (*chart.COLOURS, "#e69f00", "#56b4e9", "#999999", "#222222")
SHADES = (1.0, 0.75, 0.55, 0.35)
"""Of the first to the last query of a panel: 1 for the colour itself, 0 for white."""
UNITS = {"s": (1, " s"), "percentunit": (100, "%"), "percent": (1, "%"), "bytes": (2**-20, " MiB"), "watt": (1, " W")}
"""Factor and text of Grafana's units that differ from the plain number."""
GREY = "#777777"


@dataclass(frozen=True)
class Series:
    name: str
    colour: tuple[int, ...]
    points: Sequence[chart.Point]
    """Seconds of the epoch, and the value in the axis' unit; NaN where there is none."""


def draw(model: dict[str, Any], prometheus: Prometheus, start_s: float, end_s: float) -> Image.Image:
    """The dashboard of Grafana's JSON model, over this time."""
    panels = model["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    size = COLUMNS * COLUMN_PX, rows * ROW_PX
    image = Image.new("RGB", (size[0] * chart.FINE, size[1] * chart.FINE), "white")
    all_values = {one["name"]: one["allValue"] for one in model["templating"]["list"] if "allValue" in one}
    for panel in panels:
        painter = _Painter(ImageDraw.Draw(image), panel)
        queries = [(_filled(target["expr"], all_values), target["legendFormat"]) for target in panel["targets"]]
        if panel["type"] == "table":
            painter.table([one["metric"] | {"value": one["value"][1]} for query, _ in queries for one in prometheus.now(query)])
        else:
            painter.graph(series_of(prometheus, queries, panel, start_s, end_s), start_s, end_s)
    return image.resize(size, Image.Resampling.LANCZOS)


def _filled(expression: str, values: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def series_of(
    prometheus: Prometheus, queries: Sequence[tuple[str, str]], panel: dict[str, Any], start_s: float, end_s: float
) -> list[Series]:
    """Each has a colour of its own while there are enough; else those with the same labels have one, in the shade of their query."""
    factor, _ = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1, ""))
    step_s = (end_s - start_s) / POINTS
    found = []
    for (expression, legend), shade in zip(queries, SHADES, strict=False):
        for one in prometheus.over(expression, start_s, end_s, step_s):
            values = {round((at_s - start_s) / step_s): float(value) * factor for at_s, value in one["values"]}
            points = [(start_s + number * step_s, values.get(number, math.nan)) for number in range(POINTS + 1)]
            if any(math.isfinite(value) for _, value in points):
                found.append((legend, one["metric"], shade, points))
    shared = len(found) > len(COLOURS)
    keys = [str(sorted(labels.items())) if shared else str(number) for number, (_, labels, _, _) in enumerate(found)]
    order = list(dict.fromkeys(keys))
    return [
        Series(named(legend, labels), shaded(COLOURS[order.index(key) % len(COLOURS)], shade if shared else 1.0), points)
        for key, (legend, labels, shade, points) in zip(keys, found, strict=True)
    ]


def named(legend: str, labels: dict[str, str]) -> str:
    """The name of a series, by its legend in Grafana's notation."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()


def shaded(colour: str, shade: float) -> tuple[int, ...]:
    """A colour, mixed with white; `shade`: its part."""
    return tuple(round(255 - (255 - part) * shade) for part in ImageColor.getrgb(colour))


class _Painter:
    """One panel of a dashboard."""

    def __init__(self, canvas: ImageDraw.ImageDraw, panel: dict[str, Any]) -> None:
        self._canvas = canvas
        self._reason = panel["description"]
        _, self._unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1, ""))
        place = panel["gridPos"]
        self._left, self._top = place["x"] * COLUMN_PX + 4, place["y"] * ROW_PX + 4
        self._right, self._bottom = self._left + place["w"] * COLUMN_PX - 8, self._top + place["h"] * ROW_PX - 8
        corners = chart.scaled((self._left, self._top), (self._right, self._bottom))
        canvas.rounded_rectangle(corners, 4 * chart.FINE, outline=chart.PALE, width=chart.FINE)
        self._text((self._left + 12, self._top + 17), self._fitting(panel["title"], 14), 14)

    def graph(self, series: Sequence[Series], start_s: float, end_s: float) -> None:
        if not series:
            self._text(((self._left + self._right) / 2, (self._top + self._bottom) / 2), "No data", 15, GREY, "mm")
            self._text(((self._left + self._right) / 2, (self._top + self._bottom) / 2 + 24), self._reason, 12, GREY, "mm")
            return
        bottom = self._legend(series) - 28
        ys = chart.ticks(max(value for one in series for _, value in one.points if math.isfinite(value)))
        box = (self._left + LEFT, bottom), (self._right - RIGHT, self._top + TOP)

        def at(when_s: float, value: float) -> chart.Point:
            (left, low), (right, high) = box
            return left + (when_s - start_s) / (end_s - start_s) * (right - left), low + value / ys[-1] * (high - low)

        for number, y in enumerate(ys):
            self._canvas.line(chart.scaled(at(start_s, y), at(end_s, y)), chart.PALE, chart.FINE)
            if number % (1 + len(ys) // 6) == 0:
                self._text((box[0][0] - 8, at(start_s, y)[1]), f"{y:g}{self._unit}", 12, GREY, "rm")
        for minute in chart.ticks((end_s - start_s) / 60):
            if minute.is_integer() and start_s + minute * 60 <= end_s:
                text = time.strftime("%H:%M", time.gmtime(start_s + minute * 60))
                self._text((at(start_s + minute * 60, 0)[0], bottom + 14), text, 12, GREY, "mm")
        for one in reversed(series):  # the first is on top
            for (before_s, before), (after_s, after) in zip(one.points, one.points[1:], strict=False):
                if math.isfinite(before) and math.isfinite(after):
                    self._canvas.line(chart.scaled(at(before_s, before), at(after_s, after)), one.colour, 2 * chart.FINE)

    def table(self, rows: Sequence[dict[str, str]]) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        width = (self._right - self._left - 24) / max(1, len(names))
        for line, cells in enumerate([dict(zip(names, names, strict=True)), *rows]):
            for column, name in enumerate(names):
                place = self._left + 12 + column * width, self._top + TOP + 12 + line * LINE * 1.4
                self._text(place, self._fitting(cells.get(name, ""), 12, width), 12, chart.INK if line else GREY)

    def _legend(self, series: Sequence[Series]) -> float:
        """Draw the legend, and return its top."""
        lines: list[list[tuple[float, Series]]] = [[]]
        x = left = self._left + 12.0
        for one in series:
            width = 26 + self._canvas.textlength(one.name, chart.font(12)) / chart.FINE + 14
            if x + width > self._right and lines[-1]:
                lines.append([])
                x = left
            lines[-1].append((x, one))
            x += width
        top = self._bottom - 8 - LINE * len(lines)
        for number, line in enumerate(lines):
            y = top + LINE * (number + 0.5)
            for x, one in line:
                self._canvas.line(chart.scaled((x, y), (x + 18, y)), one.colour, 3 * chart.FINE)
                self._text((x + 24, y), one.name, 12)
        return top

    def _fitting(self, text: str, size: int, width_px: float = math.inf) -> str:
        """As much of the text as fits."""
        most_px = min(width_px - 8, self._right - self._left - 24) * chart.FINE
        if self._canvas.textlength(text, chart.font(size)) <= most_px:
            return text
        while self._canvas.textlength(f"{text} ...", chart.font(size)) > most_px:
            text = text[:-1]
        return f"{text} ..."

    def _text(self, at: chart.Point, text: str, size: int, colour: str = chart.INK, anchor: str = "lm") -> None:
        self._canvas.text(chart.scaled(at)[0], text, colour, chart.font(size), anchor=anchor)
