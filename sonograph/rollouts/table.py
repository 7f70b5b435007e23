"""A rollout for a terminal: its share and step, the figures of both models, and each budget's verdict."""

import math
import time
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sonograph.terminal import duration, printable

STATES = {"within": "green", "broken": "red", "undecided": "yellow"}
STATUSES = {"running": "green", "finished": "green", "promoting": "cyan", "paused": "yellow", "aborted": "red"}
FIGURES = {
    "requests": "requests",
    "errors": "errors",
    "p50_s": "median time",
    "p95_s": "95th percentile",
    "cpu_s": "CPU time",
    "empty": "empty results",
    "repetitive": "repetitive transcripts",
    "logprob": "log probability",
}
DRIFTS = {"word_drift": "word errors", "pixel_drift": "pixels", "picture_drift": "structure (1 - SSIM)"}
BAR = 30
"""Characters of the share's bar."""


def rollout(stage: str, view: dict[str, Any], now_s: float | None = None) -> RenderableType:
    """One stage's rollout. `now_s`: Unix time, by default the present one. Every text of the service is escaped."""
    found, figures = view["rollout"], view["figures"]
    head = Table.grid(padding=(0, 2))
    for name, value in _head(found, view["candidate"], time.time() if now_s is None else now_s):
        head.add_row(Text(name, "dim"), value)
    both = Table("", "stable", "candidate", box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for column in both.columns[1:]:
        column.justify = "right"
    for name, title in FIGURES.items():
        values = [_figure(name, figures[model].get(name)) for model in ("stable", "candidate")]
        if any(value != "-" for value in values):
            both.add_row(Text(title, "dim"), *values)
    parts: list[RenderableType] = [Text(stage, "bold"), head, Text(), both]
    if figures["pairs"]["count"]:
        parts += [Text(), _pairs(figures["pairs"])]
    if view["verdicts"]:
        parts += [Text(), _verdicts(view["verdicts"])]
    return Group(*parts)


def _head(found: dict[str, Any], candidate: dict[str, Any], now_s: float) -> list[tuple[str, RenderableType]]:
    status = Text(found["status"], STATUSES.get(found["status"], ""))
    if found["reason"]:
        status.append(f": {printable(found['reason'])}", "default")
    filled = math.ceil(found["share"] / 100 * BAR)  # of any share at least one
    share = Text.assemble(("━" * filled, "cyan"), ("┄" * (BAR - filled), "dim"), f" {found['share']:g}% of the requests")
    ready = Text("ready", "green") if candidate["ready"] else Text(printable(candidate["reason"] or "not ready"), "yellow")
    rows: list[tuple[str, RenderableType]] = [
        ("status", status),
        ("candidate", Text.assemble(printable(found["application"]), " (", ready, ")")),
        ("share", share),
    ]
    if plan := found["plan"]:
        steps = Text(", ").join(
            Text(f"{step:g}%", "bold reverse" if number == found["step"] else "") for number, step in enumerate(plan["steps"])
        )
        since = duration(max(0.0, now_s - found["changed_at"]))
        rows.append(("steps", Text.assemble(steps, f", each for {duration(plan['every_s'])}; this one since {since}")))
    if found["mirror"]:
        rows.append(("mirrored", Text(f"{found['mirror']:g}% of the requests")))
    if labelled := found["labelled"]:
        errors = [f"{labelled[model] / labelled['words']:.1%} ({model})" for model in ("stable", "candidate")]
        words = f"of {labelled['words']} words in {labelled['recordings']} recordings"
        rows.append(("word errors", Text(f"{', '.join(errors)} {words}")))
    return rows


def _pairs(pairs: dict[str, Any]) -> RenderableType:
    table = Table("difference", "value", "95% interval", box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, title in DRIFTS.items():
        if one := pairs.get(name):
            table.add_row(Text(title, "dim"), f"{one['value']:.2%}", f"{one['low']:.2%} to {one['high']:.2%}")
    return Group(Text(f"{pairs['count']} requests computed by both models", "dim"), *([table] if table.row_count else []))


def _verdicts(verdicts: list[dict[str, Any]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for one in verdicts:
        table.add_row(Text(one["state"], STATES.get(one["state"], "")), Text(printable(one["sentence"])))
    return table


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):  # of errors, by their code
        codes = ", ".join(f"{printable(code)} {count}" for code, count in value.items())
        return f"{sum(value.values())} ({codes})" if codes else "0"
    if name in ("empty", "repetitive"):
        return f"{value:.1%}"
    return f"{value:.2f} s" if name.endswith("_s") else f"{value:g}" if isinstance(value, int) else f"{value:.3f}"
