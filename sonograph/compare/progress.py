"""Progress of a comparison: a bar for each candidate on a terminal, elsewhere a line now and then."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from sonograph.compare.measured import Measured
from sonograph.terminal import duration, printable

LINE_S = 30.0
"""Time between two lines where there is no terminal."""
PATIENCE_S = 30.0
"""Time without a first result after which the command says what a cluster has free."""


class _Left(ProgressColumn):
    """Time that a candidate's rest takes, by the results since its first one."""

    def render(self, task: rich.progress.Task) -> Text:
        if task.finished:
            return Text("")
        return Text(f"{duration(task.time_remaining)} left" if task.time_remaining else "", "dim")


class Progress:
    """Done, failed and left, by candidate."""

    def __init__(
        self,
        console: Console,
        candidates: Sequence[str],
        inputs: int,
        before: Sequence[Measured],
        line_s: float = LINE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`before`: outcomes that count already. `line_s`, `patience_s`: as the constants."""
        self._line_s, self._patience_s = line_s, patience_s
        self._console = console
        self._total = len(candidates) * inputs
        self._done, self._failed = Counter(one.candidate for one in before), Counter(one.candidate for one in before if one.error)
        self._began_s = self._printed_s = time.monotonic()
        self._is_patient = False
        self._bars = rich.progress.Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=2, overflow="ellipsis", no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=2)),
            TextColumn("{task.completed:.0f}/{task.total:.0f}", justify="right"),
            TextColumn("{task.fields[failed]}", style="red"),
            _Left(),
            console=console,
            expand=True,
            transient=True,
            speed_estimate_period=120,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {
            one: self._bars.add_task(printable(one), total=inputs, completed=self._done[one], failed=self._words(one))
            for one in candidates
        }

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def advance(self, one: Measured) -> None:
        """Count an outcome."""
        self._done[one.candidate] += 1
        self._failed[one.candidate] += bool(one.error)
        self._is_patient = True
        self._bars.update(self._tasks[one.candidate], completed=self._done[one.candidate], failed=self._words(one.candidate))
        if not self._console.is_terminal and time.monotonic() - self._printed_s >= self._line_s:
            self._printed_s = time.monotonic()
            self._console.print(f"{self._done.total()} of {self._total} done, {self._failed.total()} failed.", soft_wrap=True)

    def idle(self, idle_cpus: Callable[[], tuple[float, float]], wanted: int) -> None:
        """Say once, where there is no result for long, that the cluster has no CPUs to give."""
        if self._is_patient or time.monotonic() - self._began_s < self._patience_s:
            return
        self._is_patient = True
        idle, all_cpus = idle_cpus()
        if idle < wanted:
            what = f"{idle:g} of the cluster's {all_cpus:g} CPUs are free, and a task takes {wanted}"
            self._console.print(Text(f"No result for {self._patience_s:.0f} s: {what}.", "dim"), soft_wrap=True)

    def _words(self, candidate: str) -> str:
        return f"{self._failed[candidate]} failed" if self._failed[candidate] else ""
