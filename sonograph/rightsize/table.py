"""The answer for a terminal: a table of what is asked for and used, the advice in sentences, and what fits a node."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sonograph.rightsize.advice import Advice
from sonograph.rightsize.amounts import counted, memory, plain
from sonograph.rightsize.fits import Fits
from sonograph.rightsize.used import Spread, Subject
from sonograph.terminal import duration, printable

if TYPE_CHECKING:
    from sonograph.rightsize.sources import Found

COLOURS = {"error": "red", "note": "yellow", "fine": "green"}
MOST_PARTS = 8
"""Replicas that are shown of one deployment; --json has all."""
NOTHING = "-"
NAME_WIDTH, CELL_WIDTH = 20, 10
"""Characters of the columns: a line has 75, of 80 that a terminal has."""


def report(advices: Sequence[Advice], packed: Fits, notes: Iterable[str]) -> RenderableType:
    """Every text of a service or a file is escaped."""
    parts: list[RenderableType] = [_row("", ("requested", "p50", "p95", "max", "ask for"), "dim")]
    parts += [part for advice in advices for part in _used(advice)]
    parts += [Text(), _reasons(advices)]
    if packed.rows:
        parts += [part for node in dict.fromkeys(row.node for row in packed.rows) for part in (Text(), _fits(packed, node))]
        parts += [Text(), *map(_line, packed.sentences)] if packed.sentences else []
    said = [_line(note, "dim") for note in notes]
    return Group(*parts, *([Text(), *said] if said else []))


def _line(sentence: str, style: str = "") -> Text:
    return Text(printable(sentence) + ("" if sentence.endswith(".") else "."), style)


def _used(advice: Advice) -> Iterator[RenderableType]:
    """Yield the lines of one subject."""
    subject = advice.subject
    yield Text(_title(subject), "bold")
    yield _amount("CPUs", subject.requested.cpus, subject.cpus, plain, _advised(advice, "cpus"))
    if subject.waits:
        yield _amount("CPUs waited for", None, subject.waited_cpus, plain)
    if subject.threads:
        yield _amount("threads", None, subject.threads, plain)
    yield _amount("memory", subject.requested.memory_bytes, subject.memory, memory, _advised(advice, "memory"))
    if subject.gpu_percent or subject.requested.gpus:
        yield _amount("GPU", subject.requested.gpus, _part(subject.gpu_percent), plain)
    if subject.gpu_bytes:
        yield _amount("GPU memory", None, subject.gpu_bytes, memory)
    for part in subject.parts[:MOST_PARTS]:
        name = printable(part.name.rpartition(" ")[2])
        yield _amount(f"{name} CPUs", None, part.cpus, plain)
        yield _amount(f"{name} memory", None, part.memory, memory)
    if len(subject.parts) > MOST_PARTS:
        yield Text(f"  and {len(subject.parts) - MOST_PARTS} replicas more: --json has them", "dim")


def _row(name: str, cells: Sequence[str | Text], style: str = "") -> Table:
    """One line, whose columns are those of every other."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=NAME_WIDTH, no_wrap=True, overflow="ellipsis", style="dim")
    for _ in cells:
        table.add_column(width=CELL_WIDTH, justify="right", no_wrap=True, style=style)
    table.add_row(f"  {name}", *cells)
    return table


def _amount(
    name: str, asked: float | None, used: Spread | None, shown: Callable[[float], str], advised: Text | str = ""
) -> Table:
    figures = [used.p50, used.p95, used.max] if used else []
    return _row(name, (NOTHING if not asked else shown(asked), *([shown(one) for one in figures] or [NOTHING] * 3), advised))


def _title(subject: Subject) -> str:
    name = printable(subject.name)
    if subject.kind == "task":
        return f"{name}, {counted(subject.count, 'task')}"
    if subject.kind == "deployment":
        return f"{name}, {counted(subject.count, 'replica')}" + (", hardly used" if subject.is_idle else "")
    return name


def _part(percent: Spread | None) -> Spread | None:
    """The part of a GPU that was busy, of its percent."""
    return None if percent is None else Spread(percent.p50 / 100, percent.p95 / 100, percent.max / 100)


def _advised(advice: Advice, about: str) -> Text:
    number, shown = (advice.cpus, plain) if about == "cpus" else (advice.memory_bytes, memory)
    abouts = ("cpus", "threads") if about == "cpus" else (about,)
    severities = [one.severity for one in advice.reasons if one.about in abouts]
    worst = next((one for one in ("error", "note", "fine") if one in severities), "fine")
    return Text(NOTHING) if number is None else Text(shown(number), COLOURS[worst])


def _reasons(advices: Sequence[Advice]) -> Table:
    """A line for each sentence, with the names of all that it is about: reasons by subject, then what cannot be seen."""
    reasons: list[tuple[str, str, str]]
    reasons = [(one.severity, one.sentence, advice.subject.name) for advice in advices for one in advice.reasons]
    reasons += [("note", sentence, advice.subject.name) for advice in advices for sentence in advice.subject.missing]
    names = defaultdict[tuple[str, str], list[str]](list)
    for severity, sentence, name in reasons:
        names[severity, sentence].append(printable(name))
    table = Table.grid(padding=(0, 2))
    for (severity, sentence), found in names.items():
        said = Text.assemble(("; ".join(found), "bold"), ": " if severity == "note" or len(found) > 1 else " ", _line(sentence))
        table.add_row(Text(severity, COLOURS.get(severity, "dim")), said)
    return table


def _fits(packed: Fits, node: str) -> Table:
    table = Table(
        f"of these fit a node of {printable(node)}", "as requested", "as advised", box=None, pad_edge=False, header_style="dim"
    )
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in packed.rows:
        if row.node == node:
            name = Text(f"  {printable(row.name)}")
            table.add_row(name, Text(row.as_requested, COLOURS["error"] if row.crowded else ""), Text(row.as_advised))
    return table


def header(found: "Found") -> Text:
    """One line on where the figures are from."""
    text = printable(found.source)
    if found.seconds is not None:
        text += f": samples of {duration(found.seconds)}"
    if found.requests is not None:
        text += f", about {counted(round(found.requests), 'request')}"
    return Text(f"{text}.", "dim")
