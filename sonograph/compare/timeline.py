"""Timeline of a comparison's tasks: a bar for each, by node, in lanes of tasks that ran one after the other."""

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sonograph.compare.charts import Chart, compact, hovers, trace, used_cpus
from sonograph.compare.labels import COLOURS, colour, memory, number, percent, shown
from sonograph.compare.measured import Measured

MAX_BARS = 3_000
"""Most bars of the chart."""
MAX_LANES = 300
LONGEST = 500
"""Tasks that keep a bar of their own however many there are: the longest for their candidate, among which a straggler is."""
MAX_GAP = 0.002
"""Longest pause between two tasks that share a bar, as a share of the whole time."""
PATTERNS = ("", "/", "x", "-")
"""Patterns of bars, of which each takes the next one when the colours begin anew."""
UNITS = ((7200.0, 3600.0, "hours"), (600.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""Unit of the time axis from so many seconds on."""


@dataclass(frozen=True)
class Bar:
    """One task, or several of one candidate one after the other."""

    tasks: Sequence[Measured]
    lane: int
    """Counted over all nodes."""

    @property
    def first(self) -> Measured:
        return self.tasks[0]

    @property
    def ended_s(self) -> float:
        return max(one.ended_s for one in self.tasks)


@dataclass
class Lanes:
    """Tasks by lane, with the lanes of each node next to each other."""

    bars: list[Bar] = field(default_factory=list)
    nodes: dict[str, range] = field(default_factory=dict)
    """Lanes of each node."""


def packed(tasks: Sequence[Measured]) -> list[int]:
    """Return a lane for each task of one node: by its start, the first in which no other runs."""
    found = [0] * len(tasks)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for at in sorted(range(len(tasks)), key=lambda at: (tasks[at].started_s, tasks[at].ended_s)):
        while busy and busy[0][0] <= tasks[at].started_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (max(tasks[at].started_s, tasks[at].ended_s), lane))
        found[at] = lane
    return found


def lanes(measured: Sequence[Measured]) -> Lanes:
    by_node: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        by_node[one.node].append(one)
    found = Lanes()
    begin = 0
    for node in sorted(by_node):
        places = packed(by_node[node])
        found.bars += [Bar([one], begin + lane) for one, lane in zip(by_node[node], places, strict=True)]
        found.nodes[node] = range(begin, begin + max(places) + 1)
        begin = found.nodes[node].stop
    return found


def slowness(measured: Sequence[Measured]) -> dict[int, float]:
    """Return by place in `measured` how many times its candidate's median a task took, both for a second of sound where it is known."""
    took = [(one.ended_s - one.started_s - one.load_s) / (one.length_s or 1) for one in measured]
    by_candidate: dict[str, list[float]] = defaultdict(list)
    for one, value in zip(measured, took, strict=True):
        if one.error is None:
            by_candidate[one.candidate].append(value)
    middle = {name: sorted(values)[len(values) // 2] for name, values in by_candidate.items()}
    return {
        at: value / middle[one.candidate] if middle.get(one.candidate) else 1.0
        for at, (one, value) in enumerate(zip(measured, took, strict=True))
    }


def bounded(found: Lanes, measured: Sequence[Measured]) -> tuple[Lanes, list[str]]:
    """Return what can be drawn, and a sentence for each way in which it is less than all."""
    said = []
    lane_count = max((lanes.stop for lanes in found.nodes.values()), default=0)
    if lane_count > MAX_LANES:
        nodes = {node: lanes for node, lanes in found.nodes.items() if lanes.stop <= MAX_LANES} or {
            node: range(MAX_LANES) for node in list(found.nodes)[:1]
        }
        last = max(lanes.stop for lanes in nodes.values())
        left_out = len(found.bars)
        found = Lanes([bar for bar in found.bars if bar.lane < last], nodes)
        left_out -= len(found.bars)
        said.append(f"{lane_count - last:,} of {lane_count:,} lanes, with {left_out:,} tasks, are not drawn.")
    if len(found.bars) > MAX_BARS:
        before = len(found.bars)
        found = replace(found, bars=merged(found.bars, measured))
        said.append(f"{before:,} tasks share {len(found.bars):,} bars: neighbours of one candidate have one together.")
    if len(found.bars) > MAX_BARS:
        ordered = sorted(found.bars, key=lambda bar: (bar.first.error is None, bar.first.started_s - bar.ended_s))
        left_out = sum(len(bar.tasks) for bar in ordered[MAX_BARS:])
        found = replace(found, bars=ordered[:MAX_BARS])
        said.append(f"The {left_out:,} shortest tasks are not drawn.")
    return found, said


def merged(bars: Sequence[Bar], measured: Sequence[Measured]) -> list[Bar]:
    """Return bars of neighbours together. What failed, loaded a model, or took longest for its candidate keeps a bar of its own."""
    slow = slowness(measured)
    longest = {id(measured[at]) for at in sorted(slow, key=lambda at: -slow[at])[:LONGEST]}
    whole = max(bar.ended_s for bar in bars) - min(bar.first.started_s for bar in bars)

    def alone(one: Measured) -> bool:
        return one.error is not None or one.load_s > 0.05 * (one.ended_s - one.started_s) or id(one) in longest

    found: list[Bar] = []
    for bar in sorted(bars, key=lambda bar: (bar.lane, bar.first.started_s)):
        last = found[-1] if found else None
        if (
            last is not None
            and last.lane == bar.lane
            and last.first.candidate == bar.first.candidate
            and not alone(bar.first)
            and not alone(last.first)
            and bar.first.started_s - last.ended_s <= MAX_GAP * whole
        ):
            found[-1] = Bar([*last.tasks, bar.first], bar.lane)
        else:
            found.append(bar)
    return found


def timeline(measured: Sequence[Measured], places: Mapping[str, int], errors: Mapping[str, float]) -> Chart:
    """Draw the tasks. `errors`: word error rate or 1 - agreement of a task, by its key."""
    found, said = bounded(lanes(measured), measured)
    begin = min((one.started_s for one in measured), default=0.0)
    whole = max((one.ended_s for one in measured), default=0.0) - begin
    _, second, unit = next(one for one in UNITS if whole >= one[0])
    by_candidate: dict[str, list[Bar]] = defaultdict(list)
    for bar in found.bars:
        by_candidate[bar.first.candidate].append(bar)
    data: list[dict[str, Any]] = []
    border = 1 if len(found.bars) < 150 * max(1, len(found.nodes)) else 0
    for candidate, bars in by_candidate.items():
        place = places[candidate]
        texts = [hover(bar.tasks, errors) for bar in bars]
        loads = [(bar, text) for bar, text in zip(bars, texts, strict=True) if bar.first.load_s > 0]
        for pale, part in ((True, loads), (False, list(zip(bars, texts, strict=True)))):
            starts = [bar.first.started_s - begin + (0 if pale else bar.first.load_s) for bar, _ in part]
            ends = [bar.first.started_s - begin + bar.first.load_s if pale else bar.ended_s - begin for bar, _ in part]
            marker: dict[str, Any] = {"color": colour(place), "opacity": 0.35 if pale else 1, "line": {"width": border}}
            marker["pattern"] = {"shape": PATTERNS[place // len(COLOURS) % len(PATTERNS)]}
            xs = [compact(max(0, end - start) / second) for start, end in zip(starts, ends, strict=True)]
            one = trace(place, "bar", orientation="h", x=xs, y=[bar.lane for bar, _ in part], width=0.78, marker=marker)
            one |= {"base": [compact(start / second) for start in starts], "textposition": "none"}
            data.append(one | hovers([text for _, text in part]))
    failed = [bar for bar in found.bars if bar.first.error is not None]
    cross = {"symbol": "x", "size": 9, "line": {"width": 1.5, "color": "#ffffff"}}
    xs, ys = [compact((bar.ended_s - begin) / second) for bar in failed], [bar.lane for bar in failed]
    crosses = trace("ink", "scatter", mode="markers", x=xs, y=ys, marker=cross, cliponaxis=False)
    data.append(crosses | hovers([hover(bar.tasks, errors) for bar in failed]))
    count = max((lanes.stop for lanes in found.nodes.values()), default=1)
    ticks: dict[str, Any] = {"tickvals": [(lanes.start + lanes.stop - 1) / 2 for lanes in found.nodes.values()]}
    ticks["ticktext"] = [shown(node, 22) for node in found.nodes]
    borders = [lanes.start - 0.5 for lanes in found.nodes.values()][1:]
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"width": 1, "color": "#8a8a8a"}}
    layout = {
        "height": 110 + math.ceil(count * min(26, max(5, 900 / count))),
        "barmode": "overlay",
        "xaxis": {"title": {"text": f"{unit} since the first task began"}, "rangemode": "tozero"},
        "yaxis": {
            "tickmode": "array",
            **ticks,
            "range": [count - 0.5, -0.5],
            "automargin": True,
            "zeroline": False,
            "showgrid": False,
        },
        "shapes": [{**line, "y0": at, "y1": at} for at in borders],
    }
    said_label = f"{len(measured)} tasks on {len(found.nodes)} nodes in {number(whole / second)} {unit}, {len(failed)} failed"
    return {"data": data, "layout": layout, "label": f"Timeline: {said_label}", "note": " ".join(said)}


def hover(tasks: Sequence[Measured], errors: Mapping[str, float]) -> str:
    one = tasks[0]
    if len(tasks) > 1:
        took = sum(task.ended_s - task.started_s for task in tasks)
        return (
            f"<b>{len(tasks)} tasks</b><br>{shown(one.candidate)}<br>{number(took / len(tasks), ' s')} each<br>{shown(one.node)}"
        )
    lines = [f"<b>{shown(one.input, 60)}</b>", shown(one.candidate)]
    lines.append(f"{number(one.ended_s - one.started_s, ' s')}, of it {number(one.load_s, ' s')} to load")
    lines.append(
        f"computed {number(one.wall_s, ' s')} by {number(one.cpu_s, ' CPU s')}, {number(used_cpus(one))} of {one.asked_cpus:g} CPUs"
    )
    lines.append(f"cores {cores(one.cores)}, {one.threads} threads, {memory(one.peak_bytes)}")
    if one.key in errors:
        lines.append(f"error {percent(errors[one.key])}")
    if one.error is not None:
        lines.append(f"failed: {shown(one.error, 90)}")
    return "<br>".join([*lines, shown(one.node, 60)])


def cores(numbers: Sequence[int]) -> str:
    """Return the numbers with runs of them as ranges: `0-3, 6`."""
    runs: list[list[int]] = []
    for one in sorted(set(numbers)):
        if runs and one == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], one]
        else:
            runs.append([one])
    return ", ".join("-".join(map(str, run)) for run in runs) or "unknown"
