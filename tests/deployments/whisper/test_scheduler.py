"""Continuous batching: a new request joins at the next step, and a long recording delays the others by one step at most."""

import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from deployments.roles.speech_to_text import Transcript
from deployments.whisper.scheduler import Scheduler, select_rows
from deployments.whisper.sequence import Sequence, SequenceGroup

pytestmark = pytest.mark.torch


class Named(Sequence):
    name: str


class Steps:
    """Engine that computes one window of each sequence, and records the sequences of each step. A step waits for a permit."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.permits = threading.Semaphore(0)

    def run(self, sequences: list[Named]) -> None:
        self.permits.acquire(timeout=10)
        self.seen.append([sequence.name for sequence in sequences])
        for sequence in sequences:
            sequence.begin_step(len(sequences))
            sequence.resume(None)
            if not sequence.done:
                sequence.end_step()


def sequence(name: str, windows: int = 1) -> Named:
    def transcription() -> Generator[Any, object, Transcript]:
        for _ in range(windows):
            yield
        return Transcript(name, "en", ())

    one = Named(transcription())
    one.name = name
    return one


class Long(SequenceGroup):
    """A recording in chunks of one window each."""

    def __init__(self, name: str, chunks: int) -> None:
        super().__init__()
        self.chunks = [sequence(f"{name}{number}") for number in range(chunks)]

    @property
    def sequences(self) -> list[Sequence]:
        return [chunk for chunk in self.chunks if not chunk.done]

    @property
    def done(self) -> bool:
        return not self.sequences

    @property
    def started(self) -> bool:
        return self.chunks[0].started


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def scheduler(steps: Steps) -> Iterator[Scheduler]:
    scheduler = Scheduler(steps.run, max_rows=3)
    yield scheduler
    steps.permits.release(100)
    scheduler.close()


def submitted(scheduler: Scheduler, *groups: SequenceGroup) -> threading.Thread:
    thread = threading.Thread(target=scheduler.submit, args=(list(groups),), daemon=True)
    thread.start()
    return thread


def test_requests_of_one_batch_share_a_step(scheduler: Scheduler, steps: Steps) -> None:
    steps.permits.release(1)
    scheduler.submit([sequence("a"), sequence("b")])
    assert steps.seen == [["a", "b"]]


def test_a_short_recording_waits_for_one_step_of_a_long_one(scheduler: Scheduler, steps: Steps) -> None:
    long, short = sequence("long", windows=20), sequence("short")
    steps.permits.release(1)
    scheduler.submit([long])
    second = submitted(scheduler, short)
    while short not in scheduler._groups:
        second.join(0.001)
    steps.permits.release(2)  # one may have begun before it was submitted
    second.join(10)
    assert short.done
    assert not long.done
    assert [sorted(seen) for seen in steps.seen if "short" in seen] == [["long", "short"]]
    assert len(steps.seen) <= 3


def test_more_recordings_than_rows_take_turns(scheduler: Scheduler, steps: Steps) -> None:
    steps.permits.release(100)
    for some in ("abcde", "f"):
        waiting = submitted(scheduler, *(sequence(name, windows=2) for name in some))
        waiting.join(10)
        assert not waiting.is_alive()
    assert steps.seen[:2] == [["a", "b", "c"], ["d", "e", "a"]]
    assert all(len(seen) <= 3 for seen in steps.seen)


def test_submit_returns_after_the_first_step(scheduler: Scheduler, steps: Steps) -> None:
    waiting = submitted(scheduler, sequence("a", windows=3))
    waiting.join(0.05)
    assert waiting.is_alive()
    steps.permits.release(1)
    waiting.join(10)
    assert not waiting.is_alive()
    assert steps.seen[0] == ["a"]


@pytest.mark.parametrize(
    ("groups", "max_rows", "selected"),
    [
        pytest.param(["a"], 8, "a", id="one"),
        pytest.param(["abcde"], 8, "abcd", id="a long one alone has half"),
        pytest.param(["abcde"], 1, "a", id="of one row"),
        pytest.param(["abcde", "x"], 8, "axbcd", id="with a short one"),
        pytest.param(["abcde", "xyz"], 8, "axbyczd", id="two long ones take turns"),
        pytest.param(["abcde", "x", "y", "z"], 4, "axyz", id="a second row only where no group lacks its first"),
        pytest.param(["abcde", "vwxyz", "12"], 4, "av1b", id="the first comes first"),
        pytest.param([], 4, "", id="none"),
    ],
)
def test_each_group_has_a_row_before_one_has_two(groups: list[str], max_rows: int, selected: str) -> None:
    assert "".join(select_rows([list(group) for group in groups], max_rows)) == selected


def test_a_very_long_recording_keeps_no_other_out(steps: Steps) -> None:
    scheduler = Scheduler(steps.run, max_rows=4)
    long = Long("long", chunks=20)
    steps.permits.release(1)
    scheduler.submit([long])
    assert steps.seen == [["long0", "long1"]]
    others = submitted(scheduler, *(sequence(name) for name in "abcde"))
    while len(scheduler._groups) < 6:
        others.join(0.001)
    steps.permits.release(100)
    others.join(10)
    assert not others.is_alive()
    shared = [step for step in steps.seen if set(step) & set("abcde")]
    assert len(shared) == 2, "of four rows, the long one takes one while others wait"
    while scheduler._groups:
        others.join(0.001)
    scheduler.close()
    ran = [name for step in steps.seen for name in step]
    assert sorted(ran) == sorted([*"abcde", *(f"long{number}" for number in range(20))]), "each once"


def test_a_closed_scheduler_keeps_no_caller_waiting(steps: Steps) -> None:
    scheduler = Scheduler(steps.run, max_rows=3)
    waiting = submitted(scheduler, sequence("a"))
    steps.permits.release(1)
    scheduler.close()
    waiting.join(10)
    assert not waiting.is_alive()
