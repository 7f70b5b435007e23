"""One task of a comparison, as a Ray worker runs it: a model over one input, measured."""

import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from deployments.errors import DeploymentError
from sonograph.compare.measured import Measured
from sonograph.compare.usage import PeakMemory, Usage
from sonograph.compare.works import Computed, Work

GRACE_S = 20.0
"""Time beyond the timeout after which the process ends itself, where a library does not return to Python."""
CHARACTERS = 500
"""Most of an exception's text."""
type Fault = Literal["", "input", "model", "task"]
"""Kind of a failure: none, the input for every candidate, the model for every input, or this task alone."""


class TimedOut(BaseException):
    """The end of a task's time. No handler of exceptions in a library takes it for one of its own errors."""


@dataclass(frozen=True)
class Task:
    """A pair of candidate and input, and its bounds."""

    blank: Measured
    """The outcome without its figures."""
    work: Work
    engine_key: str
    """Engines of one key are the same: a process keeps the last one."""
    timeout_s: float
    grace_s: float = GRACE_S


@dataclass(frozen=True)
class Outcome:
    measured: Measured
    fault: Fault = ""
    picture: bytes | None = None


_engine: tuple[str, Any] | None = None
"""The last engine that this process has loaded, and its key."""


def run(task: Task, content: bytes, node: str) -> Outcome:
    """Measure one pair. A failure is a part of the outcome, and no exception. `node`: where this runs."""
    global _engine
    measuring = _Measuring(task, node)
    try:
        with _bounded(task.timeout_s, task.grace_s):
            return measuring.run(content)
    except TimedOut:
        _engine = None  # it was left in the middle of something
        return measuring.failed("task", f"it took longer than {task.timeout_s:g} s, its --timeout")


class _Measuring:
    """Figures of a task until now."""

    def __init__(self, task: Task, node: str) -> None:
        self._task = task
        self._memory = PeakMemory()
        self._figures: dict[str, Any] = {"node": node, "pid": os.getpid(), "started_s": time.time()}

    def run(self, content: bytes) -> Outcome:
        work = self._task.work
        began_s = time.perf_counter()
        try:
            engine, loaded_now = _loaded(self._task)
        except Exception as error:
            return self.failed("model", f"the model does not load: {sentence(error)}")
        if loaded_now:
            self._figures["load_s"] = time.perf_counter() - began_s
        try:
            given, self._figures["length_s"] = work.read(content)
        except Exception as error:
            return self.failed("input" if isinstance(error, DeploymentError) else "task", sentence(error))
        usage = Usage(self._memory)
        try:
            with usage:
                computed = work.compute(engine, given)
        except Exception as error:
            return self.failed("task", sentence(error))
        finally:
            self._figures |= {"wall_s": usage.wall_s, "cpu_s": usage.cpu_s, "threads": usage.threads}
            self._figures["cores"] = tuple(sorted(usage.cores))
        return self._ended(computed)

    def failed(self, fault: Fault, error: str) -> Outcome:
        return replace(self._ended(Computed(), error), fault=fault)

    def _ended(self, computed: Computed, error: str | None = None) -> Outcome:
        figures = {**self._figures, "peak_bytes": self._memory.most_bytes, "ended_s": time.time(), "error": error}
        figures |= {"text": computed.text, "mean_log_probability": computed.mean_log_probability, "language": computed.language}
        return Outcome(replace(self._task.blank, **figures), picture=computed.picture)


def _loaded(task: Task) -> tuple[Any, bool]:
    """The engine, and whether it was loaded now, since this process had none or another one."""
    global _engine
    if _engine is not None and _engine[0] == task.engine_key:
        return _engine[1], False
    _engine = None  # its memory is free before the next one's is taken
    _engine = (task.engine_key, task.work.load(int(task.blank.asked_cpus)))
    return _engine[1], True


@contextmanager
def _bounded(timeout_s: float, grace_s: float) -> Iterator[None]:
    """End the block by TimedOut after so many seconds; the process itself, some time later, where the block does not end."""

    def end(*_: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGALRM, end)
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(timeout_s + grace_s, exit=True, file=nowhere)
        timer = signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, before)


def sentence(error: BaseException) -> str:
    """An error in one line: a sentence of ours as it is, another one with its class."""
    text = " ".join(str(error).split())[:CHARACTERS]
    if isinstance(error, DeploymentError | ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
