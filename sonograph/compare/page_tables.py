"""Tables of a comparison's page: the candidates, the slowest tasks, asked for and used, the failures."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from kuberay.doctor.sizes import has_too_few_cpus
from sonograph.compare.charts import used_cpus
from sonograph.compare.labels import memory, number, percent, percentile, shown
from sonograph.compare.measured import Measured
from sonograph.compare.summary import Row
from sonograph.compare.timeline import slowness

MAX_FAILURES = 300
"""Most lines of the table of failures."""
LONGEST = 15
CANDIDATE_CHARS = 60
TEXTS = {"Candidate": "text name", "Input": "text", "Node": "text", "What failed": "text long", "At p95": "text name"}
"""Classes of the columns that hold no numbers."""
SHARES = (0.5, 0.95, 1.0)


def table(caption: str, columns: Sequence[str], body: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a table that scrolls by itself. `body`: of each line its class, and the HTML of its cells, the first of them its heading."""
    kinds = [TEXTS.get(name, "") for name in columns]

    def cells(line: Sequence[str]) -> str:
        heading = f'<th scope="row" class="{kinds[0]}">{line[0]}</th>'
        return heading + "".join(f'<td class="{kind}">{one}</td>' for kind, one in zip(kinds[1:], line[1:], strict=True))

    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for kind, name in zip(kinds, columns, strict=True))
    lines = "\n".join(f'<tr class="{kind}">{cells(line)}</tr>' for kind, line in body)
    return (
        f'<div class="scroll" role="region" aria-label="Table: {caption}" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def candidates(rows: Sequence[Row]) -> str:
    """Return a line for each candidate, without the columns that have no figure."""
    sound = any(row.length_s for row in rows)
    of: dict[str, Callable[[Row], str]] = {
        "Tasks": lambda row: f"{row.count:,}",
        "Failed": lambda row: f'<span class="bad">{row.failed:,}</span>' if row.failed else "0",
        "CPU s for a second of sound" if sound else "Seconds for a picture": lambda row: number(row.cost),
        "Real-time factor": lambda row: number(row.real_time_factor),
        "Most memory": lambda row: memory(row.peak_bytes),
        "Word error rate": lambda row: percent(row.word_error_rate),
        "Agreement": lambda row: percent(row.agreement),
        "Mean log probability": lambda row: number(row.mean_log_probability),
    }
    columns = {name: [cell(row) for row in rows] for name, cell in of.items()}
    kept = {name: cells for name, cells in columns.items() if set(cells) != {number(None)}}
    body = [
        ("front" if row.on_front else "", [shown(row.candidate, CANDIDATE_CHARS), *(cells[at] for cells in kept.values())])
        for at, row in enumerate(rows)
    ]
    return table("candidates", ["Candidate", *kept], body)


def slowest(measured: Sequence[Measured], errors: Mapping[str, float]) -> str:
    """Return the tasks that took longest for their candidate: what to look at first, without a mouse too."""
    slow = slowness(measured)
    columns = ["Input", "Candidate", "Node", "Times the median", "Seconds", "To load", "CPU s", "CPUs used", "Memory", "Error"]
    body: list[tuple[str, list[str]]] = []
    for at in sorted(slow, key=lambda at: -slow[at])[:LONGEST]:
        one = measured[at]
        texts = [shown(one.input, 60), shown(one.candidate, CANDIDATE_CHARS), shown(one.node, 40)]
        numbers = [slow[at], one.ended_s - one.started_s, one.load_s, one.cpu_s, used_cpus(one)]
        error = "failed" if one.error is not None else percent(errors.get(one.key))
        body.append(("", [*texts, *map(number, numbers), memory(one.peak_bytes), error]))
    return f"<h3>Slowest for their candidate</h3>{table('slowest tasks', columns, body)}" if body else ""


def use(of: Mapping[str, Sequence[Measured]], cpus: Mapping[str, Sequence[float]]) -> str:
    """Return what the tasks of each candidate asked for and used. `cpus`: CPUs that they used."""
    names = ("asked for", "p50", "p95", "most")
    columns = ["Candidate", *(f"{what} {name}" for what in ("CPUs", "Memory") for name in names)]
    notes: list[str] = []
    body: list[tuple[str, list[str]]] = []
    for name, found in of.items():
        asked = [one.asked_cpus for one in found]
        stated = [one.asked_bytes for one in found if one.asked_bytes is not None]
        peaks, used = [one.peak_bytes for one in found], cpus[name]
        more = ["more CPUs than asked for"] if used and has_too_few_cpus(percentile(used, 0.95), max(asked)) else []
        more += ["more memory than asked for"] if stated and percentile(peaks, 0.95) > max(stated) else []
        cells = [shown(name, CANDIDATE_CHARS), span([f"{one:g}" for one in sorted(asked)])]
        cells += [number(percentile(used, share) if used else None) for share in SHARES]
        cells.append(span([memory(one) for one in sorted(stated)]) if stated else "not stated")
        cells += [memory(percentile(peaks, share)) for share in SHARES]
        body.append(("", cells))
        notes.append(f'<span class="bad">{", ".join(more)}</span>' if more else "")
    if any(notes):
        columns.append("At p95")
        body = [(kind, [*cells, note]) for (kind, cells), note in zip(body, notes, strict=True)]
    return table("asked for and used", columns, body)


def span(ordered: Sequence[str]) -> str:
    """Return the first and the last, or the one that they are."""
    return " to ".join(dict.fromkeys((ordered[0], ordered[-1])))


def failures(failed: Sequence[Measured]) -> str:
    """Return the first failures by name."""
    first = sorted(failed, key=lambda one: (one.input, one.candidate))[:MAX_FAILURES]
    body = [
        ("", [shown(one.input), shown(one.candidate, CANDIDATE_CHARS), shown(one.error or "", 400), shown(one.node, 40)])
        for one in first
    ]
    return table("failures", ["Input", "Candidate", "What failed", "Node"], body)
