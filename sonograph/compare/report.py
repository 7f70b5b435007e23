"""The end of a comparison: scores, table, files, and what failed."""

import contextlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from sonograph.compare import plan, scores, summary, tables, values
from sonograph.compare.cluster import Died, NoCluster
from sonograph.compare.inputs import Input, References
from sonograph.compare.measured import Measured, Node
from sonograph.compare.plan import Candidate, Checkpoint
from sonograph.compare.scores import Scores
from sonograph.compare.summary import Choice, Row
from sonograph.files import replace_file
from sonograph.terminal import printable

PAGE, RESULTS, SUMMARY = "page.html", "results.csv", "summary.csv"


@dataclass(frozen=True)
class Found:
    """Outcomes of a run, and all that they are judged by."""

    measured: Sequence[Measured]
    candidates: Sequence[Candidate]
    checkpoints: Mapping[str, Checkpoint]
    inputs: Sequence[Input]
    references: References
    has_references: bool
    """Whether a file of known texts was given."""
    stopped: str
    """Sentence on why the run ended before all was done."""

    @property
    def total(self) -> int:
        return len(self.candidates) * len(self.inputs)

    @property
    def ordered(self) -> list[Measured]:
        """By candidate and input, in the order in which they were given, whatever ended first."""
        labels = {one.label: place for place, one in enumerate(self.candidates)}
        names = {one.name: place for place, one in enumerate(self.inputs)}
        return sorted(self.measured, key=lambda one: (labels[one.candidate], names[one.input]))

    @property
    def compared_with(self) -> Candidate | None:
        """The largest model that has a result."""
        able = {one.candidate for one in self.measured if one.error is None}
        return plan.largest([one for one in self.candidates if one.label in able], self.checkpoints)


class Cluster(Protocol):
    """The part of Ray that a report asks."""

    def nodes(self) -> Mapping[str, Node]: ...
    def call(self, function: Callable[..., Any], *arguments: Any, candidate: Candidate | None = None) -> Any: ...
    def result(self, handle: Any) -> Any: ...


class Report:
    """Prints a comparison and writes its files."""

    def __init__(self, found: Found, out: Path, cluster: Cluster, console: Console, has_whisper: bool | None = None) -> None:
        """`has_whisper`: whether this process can normalize texts; without it, by what is installed."""
        self._has_whisper = scores.is_installed() if has_whisper is None else has_whisper
        self._found = found
        self._out = out
        self._cluster = cluster
        self._console = console
        self._problems: list[str] = []

    def run(self, within_points: float, language: str, write: Path | None) -> bool:
        """Whether all was done, and nothing failed."""
        found, measured = self._found, self._found.ordered
        largest = found.compared_with
        scored = self._scores(measured, largest, language)
        rows = summary.rows(measured, [one.label for one in found.candidates], scored)
        choice = Choice(None, "")
        if not found.stopped:
            rows, choice = summary.chosen(rows, within_points, largest.label if largest else None)
        if measured:
            self._print_table(rows, largest, choice)
        self._print_failures(measured)
        written = self._write(measured, rows, scored)
        if write:
            written += self._write_values(write, choice)
        if written:
            self._say(f"Written: {', '.join(written)}")
        if found.stopped:
            kept = sum(one.error is None for one in measured)
            sentence = f"{kept} of {found.total} results are kept in {self._out}: the same command goes on from there."
            self._say(f"{found.stopped.rstrip('.')}. {sentence}", "yellow")
        for problem in self._problems:
            self._say(problem, "red")
        failed = any(one.error is not None for one in measured)
        missing = bool(found.has_references and found.references.missing)
        return not (failed or missing or found.stopped or self._problems)

    def _scores(self, measured: Sequence[Measured], largest: Candidate | None, language: str) -> Scores:
        if not any(one.text is not None for one in measured):
            return Scores({}, {})
        if not self._has_whisper and self._found.stopped:  # a task that normalizes would wait for those that still run
            self._say("Word errors are counted once all is done: Whisper's normalizer is on the cluster alone.", "dim")
            return Scores({}, {})
        try:
            label = largest.label if largest else None
            return scores.scored(measured, self._found.references.texts, label, self._normalize, language)
        except (NoCluster, Died) as error:
            self._problems.append(f"Word errors are not counted: {error}")
            return Scores({}, {})

    def _normalize(self, texts: Sequence[scores.Text]) -> list[str]:
        """Normalize where Whisper is installed: here, or on the cluster."""
        if self._has_whisper:
            return scores.normalized(texts)
        found: list[str] = self._cluster.result(self._cluster.call(scores.normalized, texts, candidate=self._found.candidates[0]))
        return found

    def _write(self, measured: Sequence[Measured], rows: Sequence[Row], scored: Scores) -> list[str]:
        """Write CSV and page; the names of those that were written."""
        files = {RESULTS: tables.results_csv(measured, scored), SUMMARY: tables.summary_csv(rows)}
        if (page := self._page(measured, rows, scored)) is not None:
            files[PAGE] = page
        written = []
        for name, content in files.items():
            try:
                replace_file(self._out / name, content)
                written.append(str(self._out / name))
            except OSError as error:
                self._problems.append(f"{self._out / name} cannot be written: {error.strerror}")
        if (self._out / tables.PICTURES).is_dir():
            written.append(str(self._out / tables.PICTURES))
        return written

    def _page(self, measured: Sequence[Measured], rows: Sequence[Row], scored: Scores) -> bytes | None:
        if importlib.util.find_spec("plotly") is None:
            self._say(f"{PAGE} is not written, since plotly is not installed: pip install 'sonograph[compare]'", "dim")
            return None
        from sonograph.compare.page import page

        title = f"{len(self._found.candidates)} candidates over {len(self._found.inputs)} {self._kind}s"
        nodes: Mapping[str, Node] = {}
        with contextlib.suppress(Exception):  # the connection may be what has ended
            nodes = self._cluster.nodes()
        return page(measured, rows, title, nodes, scored).encode("utf-8", "backslashreplace")

    @property
    def _kind(self) -> str:
        return "prompt" if self._found.candidates[0].role == "text-to-image" else "recording"

    def _print_table(self, rows: Sequence[Row], largest: Candidate | None, choice: Choice) -> None:
        pictures = self._kind == "prompt"
        self._console.print()
        self._console.print(tables.table(rows, len(self._found.inputs), pictures, self._console.width))
        self._console.print()
        if any(one.on_front for one in rows):
            chosen = f"{tables.CHOSEN} chosen, " if choice.candidate else ""
            self._say(f"{chosen}{tables.FRONT} on the Pareto front: nothing else is both cheaper and better.", "dim")
        if largest and any(one.agreement is not None for one in rows):
            size = tables.memory(self._found.checkpoints[largest.label].size_bytes)
            self._say(f"Agreement is with the words of {largest.label}, the largest model here ({size}).", "dim")
        if choice.reason:
            self._say(choice.reason, "bold")

    def _print_failures(self, measured: Sequence[Measured]) -> None:
        failed = sum(one.error is not None for one in measured)
        if failed:
            self._say(f"{failed} of {self._found.total} failed; the same command tries them again:", "red")
            for line in tables.failures(measured):
                self._say(f"  {line}")
        missing = self._found.references.missing
        if missing and self._found.has_references:
            self._say(f"{len(missing)} of {len(self._found.inputs)} have no known text: {tables.names(missing)}", "red")

    def _write_values(self, path: Path, choice: Choice) -> list[str]:
        winner = next((one for one in self._found.candidates if one.label == choice.candidate), None)
        if winner is None:
            self._problems.append(f"{path} is not written, since no candidate is chosen.")
            return []
        try:
            values.write(path, winner, choice.reason)
        except OSError as error:
            self._problems.append(f"{path} cannot be written: {error.strerror}")
            return []
        return [str(path)]

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(printable(text), style), soft_wrap=True)
