"""A comparison as a table on a terminal, and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from sonograph.compare.measured import Measured
from sonograph.compare.scores import Errors, Scores
from sonograph.compare.summary import Row
from sonograph.terminal import printable

CHOSEN, FRONT = "★", "●"
MEDIAN, TOTAL_TIME, TOTAL_CPU, THREADS, LOG_PROBABILITY = "median\ntime", "total\ntime", "total\nCPU", "threads", "log\nprob."
CANDIDATE = "candidate"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which a spreadsheet takes a text for a formula."""
PICTURES = "pictures"
"""Folder of the pictures below that of the results."""
MAX_FAILURES = 12
MAX_NAMES = 5


def table(rows: Sequence[Row], total: int, pictures: bool, columns: int) -> Table:
    """The rows for a terminal of so many columns; a narrow one has fewer figures. `total`: inputs of each candidate."""
    labels = [printable(row.candidate) for row in rows]
    figures = _figures(rows, total, pictures)
    for name in (TOTAL_CPU, CANDIDATE, THREADS, TOTAL_TIME, MEDIAN, LOG_PROBABILITY):
        if _width(labels, figures) > columns:
            if name == CANDIDATE:
                labels = [",\n".join(label.rsplit(", ", 1)) for label in labels]  # the engine below the model
            figures.pop(name, None)
    found = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    found.add_column("", no_wrap=True)
    found.add_column(CANDIDATE, overflow="fold", vertical="bottom")
    for name in figures:
        found.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        mark = CHOSEN if row.chosen else FRONT if row.on_front else ""
        cells = [values[number] for values in figures.values()]
        found.add_row(Text(mark, "green" if row.chosen else "cyan"), Text(label), *cells, style="bold" if row.chosen else "")
    return found


def _figures(rows: Sequence[Row], total: int, pictures: bool) -> dict[str, list[str]]:
    """Columns by their headings."""
    of = "picture" if pictures else "s sound"
    found = {
        "word\nerrors": [_percent(row.word_error_rate) for row in rows],
        "agree-\nment": [_percent(row.agreement) for row in rows],
        "score": ["none" if pictures else "-"] * len(rows),
        f"CPU s /\n{of}": [_per(row) for row in rows],
        "time s /\ns sound": [_number(row.real_time_factor) for row in rows],
        MEDIAN: [_seconds(row.median_s) for row in rows],
        TOTAL_TIME: [_seconds(row.seconds) for row in rows],
        TOTAL_CPU: [_seconds(row.cpu_s) for row in rows],
        "peak\nmemory": [memory(row.peak_bytes) for row in rows],
        LOG_PROBABILITY: [_number(row.mean_log_probability) for row in rows],
        THREADS: [str(row.threads or "-") for row in rows],
        "done": [f"{row.count}" if row.count == total else f"{row.count}/{total}" for row in rows],
        "failed": [str(row.failed or "-") for row in rows],
    }
    return {name: values for name, values in found.items() if name == "done" or set(values) != {"-"}}


def _width(labels: Sequence[str], figures: Mapping[str, Sequence[str]]) -> int:
    """Columns that a table takes, with a space on both sides of each of its own."""
    texts = [labels, *([name, *values] for name, values in figures.items())]
    return 3 + sum(2 + max((len(line) for text in one for line in text.splitlines()), default=0) for one in texts)


def failures(measured: Sequence[Measured]) -> list[str]:
    """Sentences on what failed, each error once, with the candidates and inputs that it befell. Control characters are escaped."""
    groups: dict[str, list[Measured]] = {}
    for one in measured:
        if one.error is not None:
            groups.setdefault(one.error, []).append(one)
    found = []
    for error, ones in sorted(groups.items(), key=lambda group: -len(group[1])):
        candidates = list(dict.fromkeys(one.candidate for one in ones))
        inputs = list(dict.fromkeys(one.input for one in ones))
        if len(inputs) == 1 and len(candidates) > 1:
            place = f"{inputs[0]} ({len(candidates)} candidates)"
        elif len(candidates) == 1 and len(inputs) > MAX_NAMES:
            place = f"{candidates[0]} ({len(inputs)} inputs)"
        else:
            place = f"{'; '.join(candidates)}: {names(inputs)}"
        found.append(printable(f"{place}: {error}"))
    more = len(found) - MAX_FAILURES
    return [*found[:MAX_FAILURES], *([f"and {more} other errors, which results.csv has"] if more > 0 else [])]


def names(found: Sequence[str]) -> str:
    """The first of many names, and how many there are."""
    more = len(found) - MAX_NAMES
    return ", ".join(found[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def results_csv(measured: Sequence[Measured], scores: Scores) -> bytes:
    """A line for each candidate and input. A text that a spreadsheet would compute has an apostrophe before it."""
    lines = []
    for one in measured:
        pair = (one.candidate, one.input)
        known, largest = scores.reference.get(pair), scores.largest.get(pair)
        line = {**asdict(one), "settings": ", ".join(f"{name}: {value}" for name, value in one.settings.items())}
        line["cores"] = " ".join(map(str, one.cores))
        line["real_time_factor"] = one.wall_s / one.length_s if one.length_s and one.wall_s else None
        line |= {"word_errors": known and known.count, "words": known and known.words, "word_error_rate": known and known.rate}
        line["agreement"] = _agreement(largest)
        line["picture"] = picture(one) if one.role == "text-to-image" and one.error is None else None
        lines.append(line)
    return _csv(lines)


def picture(one: Measured) -> str:
    """The place of a picture below the folder of the results."""
    return f"{PICTURES}/{one.key[:16]}.png"


def summary_csv(rows: Sequence[Row]) -> bytes:
    """A line for each candidate, in the table's order."""
    return _csv([{**asdict(row), "error": row.error, "cost": row.cost} for row in rows])


def memory(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "-"
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"


def _csv(lines: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _plain(value) for name, value in line.items()})
    return text.getvalue().encode("utf-8", "backslashreplace")


def _plain(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return round(value, 6) if isinstance(value, float) else value


def _agreement(errors: Errors | None) -> float | None:
    return 1 - errors.rate if errors and errors.rate is not None else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _per(row: Row) -> str:
    if row.length_s:
        return _number(row.cost)
    return _number(row.cpu_s / row.count if row.cpu_s is not None and row.count else None)


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value < 100 else f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"
