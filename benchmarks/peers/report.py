"""Results of `benchmarks.peers` as tables for a terminal and for the documentation, and as a picture."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import chart
from benchmarks.measure import interval
from benchmarks.peers.services import PEERS, Peer

type Rounds = Sequence[Mapping[str, Any]]
"""Of one service: `rounds.Round` as stored."""
OURS = PEERS[0].name


@dataclass(frozen=True)
class Column:
    """A figure of each round. `best`: whether more of it is better, or less."""

    title: str
    value: Callable[[Mapping[str, Any]], float]
    digits: int = 2
    best: Callable[[Sequence[float]], float] = min


def _share(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda one: 100 * one["overload"][name] / one["overload"]["sent"]


COLUMNS = {
    "per_cpu_s": Column("answers a CPU-second", lambda one: one["per_cpu_s"], best=max),
    "per_s": Column("answers a second at most", lambda one: one["per_s"], best=max),
    "lone": Column("a lone request, s", lambda one: one["lone_s"]),
    "own_p50": Column("p50 at 70% of its own, s", lambda one: one["own_s"][0]),
    "own_p95": Column("p95, s", lambda one: one["own_s"][1]),
    "common_p50": Column("p50 at 70% of the least, s", lambda one: one["common_s"][0]),
    "common_p95": Column("p95, s", lambda one: one["common_s"][1]),
    "memory": Column("memory, GiB", lambda one: one["memory_mib"] / 1024),
    "first": Column("start to first answer, s", lambda one: one["first_answer_s"], 1),
    "answered": Column("answered, %", _share("answered"), 0, max),
    "refused": Column("refused, %", _share("refused"), 0),
    "lost": Column("lost, %", _share("lost"), 0),
    "wrong": Column("wrong, %", _share("wrong"), 0),
    "reworded": Column("answered in nearly the words at rest, %", _share("reworded"), 0),
    "normal": Column("normal after, s", lambda one: one["overload"]["normal_again_s"], 1),
    "left": Column("CPU after the client left, %", lambda one: 100 * one["left_cpu"], 0),
}
GROUPS = {
    "At work": ("per_cpu_s", "per_s", "lone", "own_p50", "own_p95", "common_p50", "common_p95", "memory", "first"),
    "At twice its capacity, and when clients leave": ("answered", "refused", "lost", "wrong", "reworded", "normal", "left"),
}
BEGIN, END = "<!-- of benchmarks.peers -->", "<!-- so far -->"
UNRANKED = ("refused",)
"""Columns that have no best: what is refused is not lost."""


def cells(found: Mapping[str, Rounds], name: str) -> list[tuple[Peer, str, bool]]:
    """Return each service's median with its 95% interval, and whether it is the best."""
    column = COLUMNS[name]
    values = {peer.name: list(map(column.value, found[peer.name])) for peer in PEERS if found.get(peer.name)}
    if not values:
        return []
    medians = {one: statistics.median(each) for one, each in values.items()}
    best = column.best(list(medians.values()))
    digits = column.digits
    shown = []
    for peer in PEERS:
        if peer.name in values:
            low, high = interval(values[peer.name])
            text = f"{medians[peer.name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
            shown.append((peer, text, name not in UNRANKED and f"{medians[peer.name]:.{digits}f}" == f"{best:.{digits}f}"))
    return shown


def ratio(found: Mapping[str, Rounds], name: str, peer: str) -> tuple[float, float, float]:
    """Return the median of ours / theirs by round, with its 95% interval."""
    value = COLUMNS[name].value
    ratios = [value(ours) / value(theirs) for ours, theirs in zip(found[OURS], found[peer], strict=False)]
    return statistics.median(ratios), *interval(ratios)


def behind(found: Mapping[str, Rounds]) -> list[str]:
    """Return the titles of the columns in which this service is not the best."""
    return [
        COLUMNS[name].title
        for name in COLUMNS
        if name not in UNRANKED and found.get(OURS) and not any(best for peer, _, best in cells(found, name) if peer.name == OURS)
    ]


def tables(found: Mapping[str, Rounds]) -> list[Table]:
    shown = []
    for title, names in GROUPS.items():
        table = Table("", *(COLUMNS[name].title for name in names), title=title, title_justify="left")
        columns = [cells(found, name) for name in names]
        for row in zip(*columns, strict=True):
            table.add_row(row[0][0].title, *(f"[bold]{text}[/bold]" if best else text for _, text, best in row))
        shown.append(table)
    return shown


def markdown(found: Mapping[str, Rounds]) -> str:
    """Return the tables of the documentation, with a row for each figure; the best of a row is bold."""
    present = [peer for peer in PEERS if found.get(peer.name)]
    if not present:
        return ""
    lines = []
    for title, names in GROUPS.items():
        lines += [f"| {title} | {' | '.join(peer.title for peer in present)} |", f"|---|{'---|' * len(present)}"]
        for name in names:
            row = [f"**{text}**" if best else text for _, text, best in cells(found, name)]
            lines.append(f"| {COLUMNS[name].title} | {' | '.join(row)} |")
        lines.append("")
    lines += [f"| As code | {' | '.join(peer.title for peer in present)} |", f"|---|{'---|' * len(present)}"]
    lines.append(f"| rounds measured | {' | '.join(str(len(found[peer.name])) for peer in present)} |")
    lines.append(f"| version | {' | '.join(peer.version or 'this commit' for peer in present)} |")
    lines.append(f"| lines of the graph | {' | '.join(str(peer.lines) for peer in present)} |")
    lines.append(f"| lacks | {' | '.join(', '.join(peer.cannot) or 'nothing' for peer in present)} |")
    return "\n".join(lines) + "\n"


def write(page: Path, found: Mapping[str, Rounds]) -> None:
    """Put the tables into the page of the documentation, between its two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{markdown(found)}{END}{after}", encoding="utf-8")


def draw(path: Path, found: Mapping[str, Rounds]) -> None:
    panels = []
    for name in ("per_cpu_s", "common_p95", "left"):
        medians = [
            (peer, statistics.median(map(COLUMNS[name].value, found[peer.name]))) for peer in PEERS if found.get(peer.name)
        ]
        bars = [chart.Bar(peer.name.replace("_", " "), max(0.0, value), int(peer.name != OURS)) for peer, value in medians]
        panels.append(chart.Bars({"common_p95": "p95 at 70% of the least capacity, s"}.get(name, COLUMNS[name].title), bars))
    chart.draw(path, ["this service", "others"], panels)
