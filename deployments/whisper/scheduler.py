"""Continuous batching: new requests join at the next step, and finished ones leave. Runs in the stub."""

import threading
from collections.abc import Callable
from itertools import zip_longest

from deployments.whisper.sequence import Sequence, SequenceGroup

GATHER_S = 0.003
"""Pause between two steps: requests that wait in Triton's queue arrive meanwhile."""


class Scheduler:
    """Loop that runs steps in a thread of its own, so that a long recording, which takes several, delays the others by one at most."""

    def __init__(self, run_step: Callable[[list[Sequence]], None], max_rows: int) -> None:
        """`run_step`: one step of at most `max_rows` sequences."""
        self._run_step = run_step
        self._max_rows = max_rows
        self._changed = threading.Condition()
        self._groups: list[SequenceGroup] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, groups: list[SequenceGroup]) -> None:
        """Return once each group took part in a step, if only with its first window: meanwhile the next batch gathers in Triton."""
        with self._changed:
            self._groups += groups
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(group.started for group in groups) or self._closed)

    def close(self) -> None:
        """End after the present step; unfinished groups are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Wait for groups and run one step; false when closed. It keeps no reference to groups that have ended."""
        with self._changed:
            if self._groups:
                self._changed.wait(GATHER_S)
            self._changed.wait_for(lambda: self._groups or self._closed)
            if self._closed:
                return False
            # The longest wait comes first; a long recording goes to the end after each step.
            taken, waiting = self._groups[: self._max_rows], self._groups[self._max_rows :]
        self._run_step(select_rows([group.sequences for group in taken], self._max_rows))
        with self._changed:
            new = self._groups[len(taken) + len(waiting) :]
            self._groups = waiting + new + [group for group in taken if not group.done]
            self._changed.notify_all()
        return True


def select_rows[Row](groups: list[list[Row]], max_rows: int) -> list[Row]:
    """One row of each group, then in turn more of those that have more.

    No group gets more than half of the rows, even alone: a step takes no longer than it must for requests that arrive meanwhile.
    """
    turns = zip_longest(*(rows[: max(1, max_rows // 2)] for rows in groups))
    return [row for turn in turns for row in turn if row is not None][:max_rows]
