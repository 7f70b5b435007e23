"""Charts of a comparison's page, as what plotly's JavaScript draws: cost against error, spread, asked for against used.

A trace's `meta` is the place of its candidate, by which the page hides it, or `ink`: the colour of the text, which the page sets.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sonograph.compare.labels import colour, number, percent, percentile, shown, symbol, two_lines
from sonograph.compare.measured import Measured
from sonograph.compare.summary import Row

WORD_ERRORS = "word error rate"
FEW = 6
"""Candidates that all have a label."""
MOST_HIDDEN = 1.0
"""Of a label among more of them, in the unit of `label_sides`."""
MAX_POINTS = 4_000
"""Most points of one chart."""
Chart = dict[str, Any]
"""`data` and `layout` of plotly's, with `label`, its description in words."""


def trace(meta: int | str, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "meta": meta, **more}


def hovers(texts: Sequence[str]) -> dict[str, Any]:
    """Return the texts that stand beside the points under the pointer."""
    return {"hovertext": list(texts), "hoverinfo": "text"}


def used_cpus(one: Measured) -> float | None:
    return one.cpu_s / one.wall_s if one.wall_s > 0 else None


def measure_of(rows: Sequence[Row]) -> str:
    """Return the name of the candidates' errors: of word errors where there are some, else `1 - agreement`, else an empty text."""
    if any(row.word_error_rate is not None for row in rows):
        return WORD_ERRORS
    return "1 - agreement" if any(row.agreement is not None for row in rows) else ""


def logarithmic(values: Iterable[float], times: float = 20) -> bool:
    """Whether the values need a logarithmic axis: all are positive, and they span more than so many times the least."""
    least, most = min(found := [*values], default=0), max(found, default=0)
    return least > 0 and most > times * least


def trade(rows: Sequence[Row], places: Mapping[str, int]) -> Chart:
    """Draw cost against error, with the Pareto front as a staircase: what the cheapest candidate of at most that cost achieves."""
    measure = measure_of(rows)
    sound = any(row.length_s for row in rows)
    x = "CPU seconds for a second of sound" if sound else "seconds for a picture"
    points = [(at, by, row) for row in rows if (at := row.cost) is not None and (by := row.error if measure else 0.0) is not None]
    points.sort(key=lambda point: point[:2])
    front = [(at, by) for at, by, row in points if row.on_front]
    wide = logarithmic((at for at, _, _ in points), 10)
    data: list[dict[str, Any]] = []
    if measure and len(front) > 1:
        steps = {"x": [at for at, _ in front], "y": [by for _, by in front]}
        line = {"shape": "hv", "dash": "dot", "width": 2}
        data.append(trace("ink", "scatter", mode="lines", **steps, line=line, hoverinfo="skip"))
    for (at, by, row), side in zip(points, label_sides(points, wide), strict=True):
        place = places[row.candidate]
        filled = row.on_front or not measure
        name = two_lines(row.candidate)
        lines = [shown(row.candidate), f"{x}: {number(at)}"]
        lines += [f"{measure}: {percent(by)}"] if measure else []
        lines += [f"{row.count} tasks, {row.failed} failed"]
        lines += ["on the Pareto front"] * row.on_front + ["chosen"] * row.chosen
        mark: dict[str, Any] = {"size": 14, "color": colour(place), "symbol": symbol(place) + ("" if filled else "-open")}
        mark["line"] = {"width": 3, "color": colour(place)}
        text = f"<b>{name}</b>" if row.chosen else name if side else ""
        point = trace(place, "scatter", mode="markers+text", x=[at], y=[by], marker=mark, cliponaxis=False)
        data.append(point | {"text": [text], "textposition": side or "top center", **hovers(["<br>".join(lines)])})
    across: dict[str, Any] = {"title": {"text": x}} | ({"type": "log"} if wide else {"rangemode": "tozero"})
    up: dict[str, Any] = (
        {"title": {"text": measure}, "tickformat": ".1%", "rangemode": "tozero"} if measure else {"visible": False}
    )
    if points:
        across["range"] = padded([at for at, _, _ in points], wide)
    if points and measure:
        up["range"] = [0, 1.3 * max(0.01, *(by for _, by, _ in points))]
    layout = {"height": 460 if measure else 260, "xaxis": across, "yaxis": up}
    said = "; ".join(f"{shown(row.candidate)} {number(at)}{f', {percent(by)}' if measure else ''}" for at, by, row in points[:12])
    return {"data": data, "layout": layout, "label": f"{x.capitalize()}{f' against {measure}' if measure else ''}: {said}"}


def padded(values: Sequence[float], wide: bool) -> list[float]:
    """Return the ends of an axis that leaves space for labels beside the outermost points."""
    if wide:
        low, high = math.log10(min(values)), math.log10(max(values))
        return [low - 0.25 * (high - low), high + 0.25 * (high - low)]
    return [0, 1.3 * max(values) or 1]


def label_sides(points: Sequence[tuple[float, float, Row]], wide: bool) -> list[str]:
    """Return a side of each point for its label on which it covers no other point or label; an empty text where there is none.

    Places are shares of a narrow screen's plot, where a label is at its largest."""
    if not points:
        return []
    scale = math.log10 if wide else float
    left, right = padded([at for at, _, _ in points], wide)
    top = 1.3 * max(0.01, *(by for _, by, _ in points))
    places = [((scale(at) - left) / ((right - left) or 1), by / top) for at, by, _ in points]
    half_width, half_height, gap = 0.19, 0.05, 0.09
    sides = {
        "top center": (0.0, gap),
        "bottom center": (0.0, -gap),
        "middle right": (half_width + 0.04, 0.0),
        "middle left": (-half_width - 0.04, 0.0),
        "top right": (half_width, gap),
        "bottom left": (-half_width, -gap),
        "top left": (-half_width, gap),
        "bottom right": (half_width, -gap),
    }
    taken = [(x, y, 0.03, 0.03) for x, y in places]
    front = [place for place, (_, _, row) in zip(places, points, strict=True) if row.on_front]
    for (x, y), (next_x, next_y) in pairwise(front):
        taken += [(x + (next_x - x) * share / 8, y, 0.0, 0.0) for share in range(9)]
        taken += [(next_x, y + (next_y - y) * share / 8, 0.0, 0.0) for share in range(9)]
    found = [""] * len(points)
    for at in sorted(range(len(points)), key=lambda at: not points[at][2].on_front):  # those on the front choose first
        x, y = places[at]

        def hidden(side: str, x: float = x, y: float = y) -> float:
            label_x, label_y = x + sides[side][0], y + sides[side][1]
            outside = max(0.0, half_width - label_x, label_x + half_width - 1) + max(0.0, half_height - label_y)
            return 5 * outside + sum(
                max(0.0, half_width + wide - abs(label_x - to)) * max(0.0, half_height + high - abs(label_y - by)) * 100
                for to, by, wide, high in taken
            )

        best = min(sides, key=hidden)
        if len(points) > FEW and hidden(best) > MOST_HIDDEN:
            continue
        taken.append((x + sides[best][0], y + sides[best][1], half_width, half_height))
        found[at] = best
    return found


def rows_axis(candidates: Sequence[str]) -> Chart:
    """Return an axis with a line for each candidate, the first at the top."""
    places = list(range(len(candidates)))
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": [two_lines(one) for one in candidates]}
    return {**ticks, "range": [len(candidates) - 0.5, -0.5], "automargin": True, "zeroline": False}


def spread(values: Mapping[str, Sequence[tuple[float, str]]], title: str, places: Mapping[str, int], as_percent: bool) -> Chart:
    """Draw a box for each candidate over all its values, and the values as points, of many those at the ends and some between.

    `values`: of each candidate, with the text that describes the point."""
    each = max(20, MAX_POINTS // max(1, len(values)))
    wide = not as_percent and logarithmic((value for found in values.values() for value, _ in found), 50)
    data: list[dict[str, Any]] = []
    left_out = 0
    for line, (candidate, found) in enumerate(values.items()):
        if not found:
            continue
        ordered = sorted(found)
        numbers = [value for value, _ in ordered]
        low, middle, high = (percentile(numbers, share) for share in (0.25, 0.5, 0.75))
        reach = 1.5 * (high - low)
        box = {"q1": [low], "median": [middle], "q3": [high]}
        box["lowerfence"] = [min(value for value in numbers if value >= low - reach)]
        box["upperfence"] = [max(value for value in numbers if value <= high + reach)]
        place = places[candidate]
        line_of = {"color": colour(place), "width": 2}
        boxed = trace(place, "box", orientation="h", y=[line - 0.18], width=0.34, **box, hoverinfo="skip")
        data.append(boxed | {"line": line_of, "fillcolor": "rgba(128,128,128,0.12)"})
        kept = sampled(ordered, each)
        left_out += len(ordered) - len(kept)
        marker = {"size": 5, "color": colour(place), "opacity": 0.55, "symbol": symbol(place)}
        ys = [round(line + 0.22 + 0.15 * jitter(at), 3) for at in range(len(kept))]
        xs = [compact(value) for value, _ in kept]
        points = trace(place, "scatter", mode="markers", x=xs, y=ys, marker=marker)
        data.append(points | hovers([text for _, text in kept]))
    x: dict[str, Any] = {"title": {"text": title}, "type": "log"} if wide else {"title": {"text": title}, "rangemode": "tozero"}
    if as_percent:
        x["tickformat"] = ".0%"
    layout = {"height": 130 + 62 * len(values), "xaxis": x, "yaxis": rows_axis(list(values))}
    medians = [
        f"{shown(name)}: median {number(statistics.median(value for value, _ in found))}"
        for name, found in values.items()
        if found
    ]
    note = f"{left_out:,} of the points are not drawn; the boxes count all." if left_out else ""
    return {"data": data, "layout": layout, "label": f"{title}: {'; '.join(medians[:12])}", "note": note}


def sampled(ordered: Sequence[tuple[float, str]], most: int) -> Sequence[tuple[float, str]]:
    """Return at most so many: of more, a quarter of them from each end, and between them every n-th."""
    if len(ordered) <= most:
        return ordered
    ends = most // 4
    between = ordered[ends:-ends]
    step = len(between) / (most - 2 * ends)
    return [*ordered[:ends], *(between[int(at * step)] for at in range(most - 2 * ends)), *ordered[-ends:]]


def jitter(at: int) -> float:
    """Return a place in -1 to 1 that differs from its neighbours', the same each time."""
    return 2 * (at * 0.618034 % 1) - 1


def compact(value: float) -> float:
    """Return the value with five digits, which no picture shows more of."""
    return float(f"{value:.5g}")


def asked_and_used(
    values: Mapping[str, Sequence[float]], asked: Mapping[str, float | None], title: str, places: Mapping[str, int]
) -> Chart:
    """Draw p50, p95 and the most of what each candidate's tasks used, with what they asked for as a bar across."""
    data: list[dict[str, Any]] = []
    said = []
    for line, (candidate, found) in enumerate(values.items()):
        if not found:
            continue
        ends = [percentile(found, share) for share in (0.5, 0.95, 1)]
        place, stated = places[candidate], asked[candidate]
        texts = [
            f"{shown(candidate)}<br>{name}: {number(value)}" for name, value in zip(("p50", "p95", "most"), ends, strict=True)
        ]
        marker = {"size": [15, 13, 13], "symbol": ["circle", "diamond", "triangle-right"], "color": colour(place), "opacity": 1}
        xs, line_of = [compact(end) for end in ends], {"color": colour(place), "width": 2}
        used = trace(place, "scatter", mode="lines+markers", x=xs, y=[line] * 3, marker=marker, line=line_of)
        data.append(used | hovers(texts))
        said.append(f"{shown(candidate)} asked {number(stated)}, used {number(ends[0])}, {number(ends[1])}, {number(ends[2])}")
        if stated is not None:
            mark = {"size": 26, "symbol": "line-ns", "line": {"width": 4}}
            across = trace("ink", "scatter", mode="markers", x=[compact(stated)], y=[line], marker=mark)
            data.append(across | hovers([f"{shown(candidate)}<br>asked for: {number(stated)}"]))
    layout = {
        "height": 130 + 48 * len(values),
        "xaxis": {"title": {"text": title}, "rangemode": "tozero"},
        "yaxis": rows_axis(list(values)),
    }
    return {"data": data, "layout": layout, "label": f"{title}, p50, p95 and most: {'; '.join(said[:12])}"}
