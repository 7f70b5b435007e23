"""Tasks of a comparison: submitted a few more than can run, joined as they end, each result kept at once."""

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sonograph.compare.cluster import Died, NoCluster
from sonograph.compare.inputs import Input, Unreadable
from sonograph.compare.measured import Measured
from sonograph.compare.plan import Candidate
from sonograph.compare.tasks import Outcome, Task, sentence

WAIT_S = 1.0
TRIES = 2
"""Most starts of a task whose process dies."""


@dataclass(frozen=True)
class Pair:
    """A candidate and an input."""

    candidate: Candidate
    input: Input
    task: Task

    @property
    def key(self) -> str:
        return self.task.blank.key


class Executor(Protocol):
    """Place where tasks run: Ray, or a fake."""

    def slots(self, candidate: Candidate) -> int: ...
    def submit(self, task: Task, content: bytes, candidate: Candidate) -> Any: ...
    def wait(self, handles: Sequence[Any], timeout_s: float) -> list[Any]: ...
    def result(self, handle: Any) -> Any: ...


class Runner:
    """The loop of one run. Failures become outcomes; the rest goes on."""

    def __init__(self, executor: Executor, keep: Callable[[Outcome], None], idle: Callable[[], None] = lambda: None) -> None:
        """`keep`: called with each outcome, in the order in which they end. `idle`: called about once a second while none has ended."""
        self._executor = executor
        self._keep = keep
        self._idle = idle
        self._running: dict[Any, tuple[Pair, float]] = {}
        """By handle, with the time of its start."""
        self._starts: Counter[str] = Counter()
        self._models: dict[str, str] = {}
        """Sentences on models that do not load, by candidate."""
        self._inputs: dict[str, str] = {}
        """Sentences on recordings that cannot be read, by name."""

    def run(self, pairs: Sequence[Pair]) -> None:
        """Run all. An exception of `keep`, or Ctrl-C, ends this at once; tasks that run end with their executor."""
        waiting = deque(pairs)
        while waiting or self._running:
            while waiting and (not self._running or len(self._running) < self._most(waiting[0])):
                self._start(waiting.popleft())
            ended = self._executor.wait(list(self._running), WAIT_S) if self._running else []
            for handle in ended:
                self._end(handle, waiting)
            if self._running and not ended:
                self._idle()

    def _most(self, pair: Pair) -> int:
        """Tasks at once: what waits in Ray makes an autoscaler add nodes, and holds its recording in memory."""
        return 2 * self._executor.slots(pair.candidate) + 2

    def _start(self, pair: Pair) -> None:
        error = self._models.get(pair.candidate.label) or self._inputs.get(pair.input.name)
        if not error:
            try:
                content = pair.input.content()
                if hashlib.sha256(content).hexdigest() == pair.input.sha256:
                    self._starts[pair.key] += 1
                    self._running[self._executor.submit(pair.task, content, pair.candidate)] = (pair, time.monotonic())
                    return
                error = "it has changed during the run: run the command again"
                self._inputs[pair.input.name] = error
            except Unreadable as unreadable:
                error = self._inputs[pair.input.name] = str(unreadable)
            except NoCluster:
                raise
            except Exception as cause:  # of Ray, such as a full object store
                error = sentence(cause)
        self._keep(Outcome(failed(pair.task.blank, error)))

    def _end(self, handle: Any, waiting: deque[Pair]) -> None:
        pair, began_s = self._running.pop(handle)
        try:
            outcome: Outcome = self._executor.result(handle)
        except Died as died:
            if time.monotonic() - began_s > pair.task.timeout_s + pair.task.grace_s:
                self._keep(Outcome(failed(pair.task.blank, f"its process was ended beyond its --timeout ({died})")))
            elif self._starts[pair.key] < TRIES:
                waiting.appendleft(pair)
            else:
                self._keep(Outcome(failed(pair.task.blank, f"its process ended twice: {died}")))
            return
        except NoCluster:
            raise
        except Exception as error:
            outcome = Outcome(failed(pair.task.blank, sentence(error)))
        if outcome.fault == "model":
            self._models[pair.candidate.label] = outcome.measured.error or ""
        elif outcome.fault == "input":
            self._inputs[pair.input.name] = outcome.measured.error or ""
        self._keep(outcome)


def failed(blank: Measured, error: str) -> Measured:
    """The outcome of a pair that has not run."""
    now_s = time.time()
    return replace(blank, error=error, started_s=now_s, ended_s=now_s)
