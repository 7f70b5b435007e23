"""`sonograph trace`: one request's time as a waterfall in the terminal."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sonograph import options
from sonograph.addresses import URL
from sonograph.errors import Failed, fail
from sonograph.keys import api_key

BAR, LEAST_BAR, OTHERS = 40, 12, 66
"""Columns of the time axis, in a narrow terminal too, and of all else in a row."""
PARTS = " ▏▎▍▌▋▊▉█"
"""Eighths of a column, from none to all."""
console = Console()


def trace(
    id: Annotated[str, typer.Argument(help="A trace's or a request's id, `last`, or `slowest`.")] = "last",
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON.")] = False,
) -> None:
    """Show where one request's time went: every queue, attempt, window and step.

    The service keeps the traces of its last requests (the setting `tracing.max_traces`).
    """
    from sonograph.service import Service  # loads httpx

    try:
        with Service(url, api_key(key_file)) as service:
            found = service.trace(id)
    except Failed as error:
        fail("trace", error)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        console.print(waterfall(found, console.width))
        if id == "slowest":
            console.print(one_line(f"\n{covered(found)}", "dim"))


def waterfall(trace: dict[str, Any], width: int) -> Group:
    """The spans as a tree, each one line with a bar, for a terminal of so many columns. `trace`: the answer of `GET /graph/traces/{id}`."""
    columns = max(LEAST_BAR, min(BAR, width - OTHERS))
    total_ms = max([trace["took_ms"], *(span["start_ms"] + span["took_ms"] for span in trace["spans"])], default=0.0)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("span", no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column(f"0 to {total_ms:.0f} ms", width=columns, no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("")
    for depth, span in in_order(trace["spans"]):
        style = "red" if span["error"] else "" if depth else "bold"
        bar = Text(bar_of(span["start_ms"], span["took_ms"], total_ms, columns), "red" if span["error"] else "cyan")
        table.add_row(Text("  " * depth + span["name"], style), bar, f"{span['took_ms']:.1f}", one_line(remark(span), "dim"))
    more = f", and {trace['dropped']} further spans that were not kept" if trace["dropped"] else ""
    outcome = f"mirror of trace {trace['mirror_of']}" if trace["mirror_of"] else f"status {trace['status']}"
    title = (
        one_line(f"request {trace['request_id']}", "bold"),
        one_line(f"{outcome}  {utc(trace['at'])}{more}"),
        one_line(f"trace {trace['trace_id']}  ingress replica {trace['replica']}", "dim"),
        *(one_line(f"mirrored in trace {id}", "dim") for id in trace["mirrors"]),
    )
    return Group(*title, Text(""), table)


def covered(trace: dict[str, Any]) -> str:
    """The requests among which this one was the slowest."""
    return f"the slowest of {trace['kept']} requests: all that ended since {utc(trace['kept_since'])}"


def utc(at: float) -> str:
    """`at`: Unix time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def one_line(text: str, style: str = "") -> Text:
    """Text that ends with an ellipsis where it is longer than its place."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def in_order(spans: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Each span after the one around it, with its depth; siblings by their begin. One without a known parent stands at the top."""
    ids = {span["id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda one: float(one["start_ms"])):
        parent = span["parent_id"] if span["parent_id"] in ids and span["parent_id"] != span["id"] else ""
        children.setdefault(parent, []).append(span)
    found: list[tuple[int, dict[str, Any]]] = []
    left = [(0, span) for span in reversed(children.get("", []))]
    while left:
        depth, span = left.pop()
        found.append((depth, span))
        left += [(depth + 1, child) for child in reversed(children.pop(span["id"], []))]
    return found


def bar_of(start_ms: float, took_ms: float, total_ms: float, columns: int = BAR) -> str:
    """A bar from its begin to its end on an axis of so many columns; at least an eighth of a column."""
    if total_ms <= 0:
        return ""
    begin = min(max(start_ms, 0.0) / total_ms * columns, columns - 0.125)
    whole = int(begin)
    eighths = max(1, round(min(took_ms / total_ms * columns, columns - begin) * 8))
    return (" " * whole + "█" * (eighths // 8) + PARTS[eighths % 8].strip())[:columns]


def remark(span: dict[str, Any]) -> str:
    """The most telling facts of a span: its error, events and batch, and its model, whose name can be long."""
    attributes, events = span["attributes"], span["events"]
    facts = [span["error"]]
    if events:
        facts.append(f"{len(events)} × {events[0]['name']}")
    if "sonograph.batch_size" in attributes:
        facts.append(f"batch of {attributes['sonograph.batch_size']:g}")
    facts.append(attributes.get("gen_ai.response.model"))
    return ", ".join(filter(None, facts))
