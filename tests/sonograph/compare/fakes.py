"""Fakes of models for `sonograph compare`: the content of a recording says what happens to it."""

import hashlib
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployments.errors import InvalidInput
from sonograph.compare.measured import Measured
from sonograph.compare.plan import Candidate
from sonograph.compare.runner import Executor
from sonograph.compare.tasks import Outcome, Task, run
from sonograph.compare.works import Computed, Work

SIZES = {"tiny.en": 10, "base": 20}
"""Characters of each model's checkpoint."""
WORDS = "one red apple on the table and a small boat"


def measured(**values: Any) -> Measured:
    """An outcome with some of its figures."""
    blank: dict[str, Any] = {
        **{"key": "k", "role": "speech-to-text", "candidate": "tiny.en, openai-whisper", "model": "tiny.en"},
        **{"engine": "openai-whisper", "settings": {}, "input": "a.wav", "length_s": 2.0, "asked_cpus": 1, "asked_bytes": None},
        **{"node": "n", "pid": 1, "cores": (0,), "started_s": 1.0, "ended_s": 2.0, "load_s": 0.0, "wall_s": 1.0, "cpu_s": 1.0},
        **{"threads": 1, "peak_bytes": 100, "text": WORDS, "mean_log_probability": -0.5, "language": "en"},
    }
    return Measured(**{**blank, **values})


@contextmanager
def at_most(size_bytes: int) -> Iterator[None]:
    """Bound the size of every file that this process writes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@dataclass(frozen=True)
class FakeWork:
    """A model that knows one text. A recording of `unreadable`, `wrong`, `die`, `die once`, `hang` or `hang hard` does what it says."""

    model: str
    folder: Path
    """Of the checkpoints, and of a line for each computation."""
    slow_s: float = 0.0

    def load(self, threads: int) -> Any:
        if self.model.startswith("broken"):
            raise ValueError("its file is cut off")
        (self.folder / f"loaded-{self.model}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return self.model

    def read(self, content: bytes) -> tuple[str, float | None]:
        text = content.decode()
        if text.startswith("unreadable"):
            raise InvalidInput("the recording has no audio track")
        return text, 2.0

    def compute(self, engine: Any, given: Any) -> Computed:
        with (self.folder / "computed").open("a") as file:
            file.write(f"{self.model} {given}\n")
        if given.startswith("die once"):
            mark = self.folder / f"died-{self.model}"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif given.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif given.startswith("wrong"):
            raise InvalidInput("language de needs a multilingual model")
        elif given.startswith("hang hard"):
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # no signal reaches Python within it
        elif given.startswith("hang"):
            time.sleep(10_000)
        time.sleep(self.slow_s)
        return Computed(WORDS if engine == "base" else WORDS.replace("red", "bread"), -0.25, "en")

    def checkpoint(self) -> Path | None:
        place = self.folder / f"{self.model}.bin"
        place.write_text("x" * SIZES.get(self.model, 5))
        return place


@dataclass(frozen=True)
class Finder:
    """`find_work` of a run."""

    folder: Path
    slow_s: float = 0.0

    def __call__(self, candidate: Candidate, language: str) -> Work:
        return FakeWork(candidate.model, self.folder, self.slow_s)


class Inline(Executor):
    """Tasks one after the other in this process. A recording of `die` raises as the death of a process does."""

    def __init__(self, deaths: Mapping[str, int] | None = None, error: Exception | None = None, slots: int = 1) -> None:
        """`deaths`: how often the task of an input dies. `error`: of such a death."""
        self.submitted: list[tuple[str, str]] = []
        """Candidates and inputs."""
        self.most = 0
        """Most tasks at once."""
        self._deaths = dict(deaths or {})
        self._error = error
        self._slots = slots
        self._waiting: dict[int, tuple[Task, bytes]] = {}

    def slots(self, candidate: Candidate) -> int:
        return self._slots

    def submit(self, task: Task, content: bytes, candidate: Candidate) -> int:
        self.submitted.append((candidate.label, task.blank.input))
        handle = len(self.submitted)
        self._waiting[handle] = (task, content)
        self.most = max(self.most, len(self._waiting))
        return handle

    def wait(self, handles: Sequence[Any], timeout_s: float) -> list[Any]:
        return list(handles[:1])

    def result(self, handle: Any) -> Outcome:
        task, content = self._waiting.pop(handle)
        if self._deaths.get(task.blank.input, 0) > 0:
            self._deaths[task.blank.input] -= 1
            assert self._error is not None
            raise self._error
        outcome = run(task, content, "here")
        return replace(outcome)
