"""The table of docs/benchmarks.md, by card, and the picture of throughput by batch."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import chart

NOT_RUN = "not run"
Rows = Mapping[str, dict[str, Any]]


class Figure(NamedTuple):
    text: str
    goal: str
    part: str
    value: Callable[[Rows], str]
    """Text of the figure. Raises KeyError where a row is missing."""


def _rate(row: str, unit: str, ours: str, theirs: str) -> Callable[[Rows], str]:
    def value(rows: Rows) -> str:
        sides = rows[row][unit]
        return f"{sides[ours]['median']:.3g} / {sides[theirs]['median']:.3g}"

    return value


def _best(rows: Rows) -> str:
    by_batch = [row["images a second"] for name, row in rows.items() if name.startswith("batch ") and "images a second" in row]
    if not by_batch:
        raise KeyError("batch")
    return " / ".join(f"{max(one[side]['median'] for one in by_batch):.3g}" for side in ("ours", "diffusers"))


def _holds(rows: Rows) -> str:
    checks = {name: row for name, row in rows.items() if "holds" in row}
    if len(checks) < 2:
        raise KeyError("precision")
    failed = [name for name, row in checks.items() if not row["holds"]]
    return f"fails: {', '.join(failed)}" if failed else "hold"


def _figures() -> list[Figure]:
    found = []
    for part, name in (("whisper", "Whisper large-v3"), ("turbo", "Whisper turbo")):
        goal = "at least 400 on an H100" if part == "whisper" else ""
        rate = "times real time"
        found += [
            Figure(f"{name}: correctness", "hold", part, _holds),
            Figure(
                f"{name}: times real time, 32 windows / openai-whisper's loop",
                goal,
                part,
                _rate("batch 32", rate, "ours", "openai-whisper"),
            ),
            Figure(f"{name}: the same, one window", "", part, _rate("batch 1", rate, "ours", "openai-whisper")),
            Figure(
                f"{name}: recordings of 4.7 s a second, `padding: always` / `adaptive`",
                "",
                part,
                _rate("short recordings", "recordings a second", "always", "adaptive"),
            ),
        ]
    for part, name in (
        ("sd15", "SD 1.5, 512 px, 20 steps"),
        ("sd-turbo", "SD-Turbo, 512 px, 1 step"),
        ("sdxl", "SDXL, 1024 px, 20 steps"),
    ):
        goal = "at least 0.95" if part == "sd15" else ""
        found += [
            Figure(f"{name}: correctness", "hold", part, _holds),
            Figure(
                f"{name}: images a second alone / diffusers' call",
                "",
                part,
                _rate("batch 1", "images a second", "ours", "diffusers"),
            ),
            Figure(f"{name}: images a second, best static batch / diffusers' call", "", part, _best),
            Figure(
                f"{name}: step-level batch of 8 by the best static batch, saturated",
                goal,
                part,
                lambda rows: f"{rows['step-level, saturated']['share']:.2f}",
            ),
            Figure(
                f"{name}: GPU busy, batch of 8",
                "above 90%",
                part,
                lambda rows: f"{rows['idle and waits, batch 8']['gpu busy']['share']:.0%}",
            ),
            Figure(
                f"{name}: from cancel to the next free step",
                "",
                part,
                lambda rows: f"{rows['cancel to the next free step']['ms']['median']:.0f} ms",
            ),
            Figure(
                f"{name}: mean latency at 70% load, step-level by static",
                "",
                part,
                lambda rows: f"{rows['arrivals at 70%']['mean, step-level by static']:.2f}",
            ),
        ]
    return found


def table(machine: Mapping[str, Any] | None, parts: Mapping[str, Rows]) -> str:
    """A table in Markdown; `not run` where the part has no such row."""
    lines = [f"| | goal | {machine['card'] if machine else 'no card yet'} |", "|---|---|---|"]
    for figure in _figures():
        try:
            value = figure.value(parts[figure.part])
        except (KeyError, TypeError):
            value = NOT_RUN
        lines.append(f"| {figure.text} | {figure.goal} | {value} |")
    return "\n".join(lines)


def tables(folder: Path) -> str:
    """The tables of all results in the folder; an empty one where there is none."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    return "\n\n".join(table(one["machine"], one["parts"]) for one in found) or table(None, {})


def draw(parts: Mapping[str, Rows], path: Path) -> None:
    """Draw the throughput of each part by batch, ours and the library's; nothing where no part has any."""
    panels = []
    for part, rows in parts.items():
        lines: list[list[tuple[float, float]]] = [[], []]
        unit = ""
        for name, row in rows.items():
            for unit_name in ("times real time", "images a second"):
                if name.startswith("batch ") and unit_name in row:
                    unit = unit_name
                    for line, side in zip(lines, row[unit_name].values(), strict=True):
                        line.append((float(name.split()[1]), side["median"]))
        if unit:
            panels.append(chart.Panel(f"{part}: {unit}", "batch", lines))
    if panels:
        chart.draw(path, ["Sonograph's engine", "openai-whisper's, or diffusers', own loop"], panels)
