"""The page of a comparison: one HTML file with its charts, tables and scripts, which asks no server for anything.

Its policy (CSP) allows the two scripts by their hashes and forbids every request, so that a name from outside can neither run nor load
anything even where it was not escaped.
"""

import base64
import hashlib
import html
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources

from sonograph.compare import page_tables as tables
from sonograph.compare.charts import WORD_ERRORS, Chart, asked_and_used, measure_of, spread, trade, used_cpus
from sonograph.compare.labels import COLOURS, colour, memory, number, shown
from sonograph.compare.measured import Measured, Node
from sonograph.compare.scores import Scores
from sonograph.compare.summary import Row
from sonograph.compare.timeline import timeline

POLICY = "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(
    measured: Sequence[Measured],
    rows: Sequence[Row],
    title: str,
    nodes: Mapping[str, Node],
    scores: Scores | None = None,
) -> str:
    """Return the page. `scores`: the errors of single tasks.

    Raises ImportError where plotly is not installed."""
    from plotly.offline import get_plotlyjs

    names = list(dict.fromkeys([*(row.candidate for row in rows), *(one.candidate for one in measured)]))
    places = {name: place for place, name in enumerate(names)}
    charts, sections = content(measured, rows, nodes, errors_of(measured, rows, scores), places)
    scripts = [str(get_plotlyjs()), file("page.js")]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    policy = POLICY.format(" ".join(f"'sha256-{one}'" for one in hashes))
    embedded = json.dumps(charts, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        embedded = embedded.replace(sign, f"\\u{ord(sign):04x}")
    heading = shown(title)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{heading}</title>\n<style>\n{file('page.css')}</style>\n</head>\n<body>",
            '<a class="skip" href="#table">To the table</a>',
            f"<header><h1>{heading}</h1>{facts(measured, rows)}{choice(places)}</header>\n<main>",
            *sections,
            "</main>",
            f'<script type="application/json" id="charts">{embedded}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body>\n</html>\n",
        ]
    )


def file(name: str) -> str:
    return resources.files("sonograph.compare").joinpath(name).read_text(encoding="utf-8")


def content(
    measured: Sequence[Measured],
    rows: Sequence[Row],
    nodes: Mapping[str, Node],
    errors: Mapping[str, float],
    places: Mapping[str, int],
) -> tuple[dict[str, Chart], list[str]]:
    """Return the charts by the id of their element, and the page's sections."""
    good: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        if one.error is None:
            good[one.candidate].append(one)
    of = {name: good[name] for name in places if good[name]}
    sound = any(one.length_s for one in measured)
    charts: dict[str, Chart] = {"trade": trade(rows, places)}
    took = {name: [(seconds(one), label(one)) for one in found] for name, found in of.items()}
    time_title = "real-time factor" if sound else "seconds for a picture"
    charts["time-spread"] = spread(took, time_title, places, as_percent=False)
    wrong = {name: [(errors[one.key], label(one)) for one in found if one.key in errors] for name, found in of.items()}
    measure = measure_of(rows)
    if any(wrong.values()):
        charts["error-spread"] = spread(wrong, measure or "error", places, as_percent=True)
    charts["timeline"] = timeline(measured, places, errors)
    cpus = {name: [used for one in found if (used := used_cpus(one)) is not None] for name, found in of.items()}
    asked_cpus = {name: max(one.asked_cpus for one in found) for name, found in of.items()}
    charts["cpus"] = asked_and_used(cpus, asked_cpus, "CPUs", places)
    gib = {name: [one.peak_bytes / 2**30 for one in found] for name, found in of.items()}
    stated = {name: [one.asked_bytes for one in found if one.asked_bytes is not None] for name, found in of.items()}
    asked_gib = {name: max(found) / 2**30 if found else None for name, found in stated.items()}
    charts["memory"] = asked_and_used(gib, asked_gib, "memory, GiB", places)
    drawn = {name: chart for name, chart in charts.items() if chart["data"]}
    sections = [
        section("trade", f"Cost against {measure}" if measure else "Cost", trade_notes(rows, measure), figure(drawn, "trade")),
        section("table", "Candidates", f"★ stands on the Pareto front. {chosen(rows)}", tables.candidates(rows)),
        section(
            "spread",
            "Spread over inputs",
            "The box holds the middle half, with the median in it.",
            pair(drawn, "time-spread", "error-spread"),
        ),
        section(
            "tasks",
            "Timeline of tasks",
            timeline_notes(charts["timeline"]),
            tools() + figure(drawn, "timeline") + tables.slowest(measured, errors),
        ),
        section("use", "Asked for and used", use_notes(nodes), pair(drawn, "cpus", "memory") + tables.use(of, cpus)),
    ]
    failed = [one for one in measured if one.error is not None]
    if failed:
        sections.append(section("failures", f"Failures: {len(failed):,}", failure_notes(failed), tables.failures(failed)))
    return drawn, sections


def errors_of(measured: Sequence[Measured], rows: Sequence[Row], scores: Scores | None) -> dict[str, float]:
    """Return the error of each task that has one, by its key: the rate of the measure that the rows are drawn by."""
    if scores is None:
        return {}
    by = scores.reference if measure_of(rows) == WORD_ERRORS else scores.largest
    found = {one.key: by.get((one.candidate, one.input)) for one in measured if one.error is None}
    return {key: errors.rate for key, errors in found.items() if errors is not None and errors.rate is not None}


def seconds(one: Measured) -> float:
    """Return the real-time factor, or for a picture the seconds."""
    return one.wall_s / one.length_s if one.length_s else one.wall_s


def label(one: Measured) -> str:
    took = f"{number(seconds(one))}, {number(one.wall_s, ' s')} on {shown(one.node, 40)}"
    return f"<b>{shown(one.input, 60)}</b><br>{shown(one.candidate)}<br>{took}"


def section(name: str, heading: str, note: str, body: str) -> str:
    said = f"<p>{note}</p>" if note else ""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{html.escape(heading)}</h2>{said}\n{body}</section>'


def figure(charts: Mapping[str, Chart], name: str) -> str:
    """Return the place of a chart, with its description in words; `label` is escaped already."""
    if name not in charts:
        return ""
    chart = charts[name]
    height = chart["layout"]["height"]
    note = f'<figcaption class="note">{chart["note"]}</figcaption>' if chart.get("note") else ""
    described = f'role="img" aria-label="{chart["label"]}"'
    return f'<figure><div class="chart" id="chart-{name}" {described} style="height:{height}px"></div>{note}</figure>'


def pair(charts: Mapping[str, Chart], *names: str) -> str:
    return f'<div class="pair">{"".join(figure(charts, name) for name in names)}</div>'


def facts(measured: Sequence[Measured], rows: Sequence[Row]) -> str:
    failed = sum(one.error is not None for one in measured)
    lengths_s = {one.input: one.length_s for one in measured if one.length_s}
    whole_s = max((one.ended_s for one in measured), default=0.0) - min((one.started_s for one in measured), default=0.0)
    kind = "recording" if lengths_s else "prompt"
    inputs, used = len({one.input for one in measured}), len({one.node for one in measured})
    counts = {"task": len(measured), "candidate": len(rows), kind: inputs, "node": used}
    said = [(name if count == 1 else f"{name}s", f"{count:,}") for name, count in counts.items()]
    said += [("minutes of sound", number(sum(lengths_s.values()) / 60))] if lengths_s else []
    said += [("seconds in all", number(whole_s))]
    items = "".join(f"<li><strong>{value}</strong> {name}</li>" for name, value in said)
    items += f'<li><a class="bad" href="#failures">{failed:,} failed</a></li>' if failed else "<li>none failed</li>"
    return f'<ul class="facts">{items}</ul>'


def choice(places: Mapping[str, int]) -> str:
    """Return the legend, whose boxes hide candidates in every chart."""
    boxes = "".join(
        f'<label><input type="checkbox" checked data-candidate="{place}">{swatch(place)}{shown(name, 60)}</label>'
        for name, place in places.items()
    )
    without = "<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>"
    return f"<fieldset><legend>Shown in the charts</legend>{boxes}</fieldset>{without}"


def swatch(place: int) -> str:
    """Return a candidate's colour, with stripes where the colours have begun anew."""
    stripes = "".join(f"M{at} 16l16-16" for at in range(-8, 12, 8)) if place >= len(COLOURS) else ""
    drawn = f'<rect width="16" height="16" fill="{colour(place)}"/><path d="{stripes}" stroke="#fff" stroke-width="2"/>'
    return f'<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true">{drawn}</svg>'


def chosen(rows: Sequence[Row]) -> str:
    return "".join(f"<strong>{shown(row.candidate)}</strong> is chosen." for row in rows if row.chosen)


def trade_notes(rows: Sequence[Row], measure: str) -> str:
    if not measure:
        sound = any(row.length_s for row in rows)
        reason = "no reference text was given, and there was nothing to agree with" if sound else "these tasks have no score"
        return f"There is no error axis: {reason}."
    missing = [shown(row.candidate) for row in rows if row.cost is None or row.error is None]
    said = "Down and to the left is better. Filled marks are on the Pareto front: no other candidate is both cheaper and better."
    if measure == "1 - agreement":
        said += " Without reference texts the error is the share of words on which a candidate differs from the largest model."
    return said + (f" Not drawn, for want of a figure: {', '.join(missing)}." if missing else "")


def timeline_notes(chart: Chart) -> str:
    note = "A bar is a task, pale while it loads its model, × where it failed. A lane holds tasks that ran one after the other on a node."
    return note + (" What is left out stands below." if chart["note"] else "")


def tools() -> str:
    buttons = {"nearer": "Zoom in", "farther": "Zoom out", "earlier": "Earlier", "later": "Later", "all": "Everything"}
    return (
        '<div class="tools">'
        + "".join(f'<button type="button" data-move="{one}">{name}</button>' for one, name in buttons.items())
        + "</div>"
    )


def use_notes(nodes: Mapping[str, Node]) -> str:
    sizes = Counter((one.cpus, f" and {memory(one.memory_bytes)}" if one.memory_bytes else "") for one in nodes.values())
    have = ", ".join(f"{count:,} with {cpus:g} CPUs{size}" for (cpus, size), count in sorted(sizes.items())[:10])
    marks = "● is the median task, ◆ the 95th percentile, ▶ the most; the bar across is what a task asked for. "
    marks += "CPUs used are CPU seconds by wall seconds."
    return marks + (f" Nodes: {have}." if have else "")


def failure_notes(failed: Sequence[Measured]) -> str:
    left_out = len(failed) - tables.MAX_FAILURES
    return (
        f"The first {tables.MAX_FAILURES:,} by name; {left_out:,} further ones are not listed."
        if left_out > 0
        else "They do not count in any figure above."
    )
