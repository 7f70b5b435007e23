"""The record of a run: one JSON file, written after each row, so that a run that was cut off goes on where it ended."""

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

Row = dict[str, Any]


class Report:
    def __init__(self, path: Path, machine: Row, settings: Row, console: Console) -> None:
        """Read the earlier rows in `path`, where they are of the same machine, code and settings."""
        self._path = path
        self._console = console
        self.machine, self.settings = machine, settings
        self.parts: dict[str, dict[str, Row]] = {}
        if path.is_file():
            earlier = json.loads(path.read_text())
            if earlier["machine"] == machine and earlier["settings"] == settings:
                self.parts = earlier["parts"]

    def part(self, name: str, limit_s: float) -> "Part":
        return Part(self, name, self.parts.setdefault(name, {}), limit_s, self._console)

    @property
    def failed(self) -> list[str]:
        """Rows that ended in an error, or whose check does not hold."""
        return [
            f"{part}: {name}"
            for part, rows in self.parts.items()
            for name, row in rows.items()
            if "error" in row or row.get("holds") is False
        ]

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": self.machine, "settings": self.settings, "parts": self.parts}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(document, indent=1) + "\n")
        temporary.replace(self._path)


class Part:
    """The rows of one model. What does not fit its time is left for the next run, and said to be."""

    def __init__(self, report: Report, name: str, rows: dict[str, Row], limit_s: float, console: Console) -> None:
        self.name, self.rows = name, rows
        self._report, self._console = report, console
        self._began_s, self._limit_s = time.monotonic(), limit_s

    def complete(self, names: list[str]) -> bool:
        return all(self._done(name) for name in names)

    def row(self, name: str, measure: Callable[[], Row], expected_s: float = 0.0) -> None:
        """Measure a row unless it is there. An error becomes the row's text and ends no other. `expected_s`: its time, a guess."""
        if self._done(name):
            self._console.print(f"[dim]{self.name}: {name}: measured before[/dim]", highlight=False)
            return
        began_s = time.monotonic()
        if began_s - self._began_s + expected_s > self._limit_s:
            row: Row = {"not run": f"the part's {self._limit_s:g} s are over: run the command again"}
        else:
            try:
                row = measure()
            except Exception as error:
                row = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300], "where": _where(error)}
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            row["took_s"] = round(time.monotonic() - began_s, 1)
        self.rows[name] = row
        self._report.save()
        self._console.print(f"{self.name}: {name}: {_line(row)}", markup=False, highlight=False, soft_wrap=True)

    def _done(self, name: str) -> bool:
        return name in self.rows and not {"error", "not run"} & self.rows[name].keys()


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))


def _line(row: Row) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in row.items() if not isinstance(value, list))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        if "median" in value:
            return f"{value['median']:.3g} ({value['least']:.3g} to {value['greatest']:.3g})"
        return "{" + ", ".join(f"{key} {_text(one)}" for key, one in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
