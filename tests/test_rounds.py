"""Pass after pass: who comes joins at the next, and a long recording holds nobody up for more than one."""

import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

from deployments.whisper.rounds import Rounds
from deployments.whisper.voices import Spoken, Voice


class Named(Voice):
    name: str


class Passes:
    """Hears a window of each, and remembers who was in which pass. A pass ends when it may."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.may = threading.Semaphore(0)

    def listen(self, voices: Sequence[Named]) -> None:
        self.may.acquire(timeout=10)
        self.seen.append([voice.name for voice in voices])
        for voice in voices:
            voice.enter(len(voices))
            voice.tell(None)
            if not voice.done:
                voice.leave()


def voice(name: str, windows: int = 1) -> Named:
    def work() -> Generator[Any, object, Spoken]:
        for _ in range(windows):
            yield
        return Spoken(name, "en", ())

    one = Named(work())
    one.name = name
    return one


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def rounds(passes: Passes) -> Iterator[Rounds]:
    rounds = Rounds(passes.listen, most=3)
    yield rounds
    passes.may.release(100)
    rounds.close()


def joined(rounds: Rounds, *voices: Voice) -> threading.Thread:
    thread = threading.Thread(target=rounds.join, args=(voices,), daemon=True)
    thread.start()
    return thread


def test_what_comes_together_is_heard_together(rounds: Rounds, passes: Passes) -> None:
    passes.may.release(1)
    rounds.join([voice("a"), voice("b")])
    assert passes.seen == [["a", "b"]]


def test_a_short_one_waits_for_one_pass_of_a_long_one(rounds: Rounds, passes: Passes) -> None:
    long, short = voice("long", windows=20), voice("short")
    passes.may.release(1)
    rounds.join([long])
    second = joined(rounds, short)
    while short not in rounds._voices:
        second.join(0.001)
    passes.may.release(2)  # one may have begun before it came
    second.join(10)
    assert short.done
    assert not long.done
    assert [sorted(seen) for seen in passes.seen if "short" in seen] == [["long", "short"]]
    assert len(passes.seen) <= 3


def test_more_than_fit_take_turns(rounds: Rounds, passes: Passes) -> None:
    passes.may.release(100)
    for some in ("abcde", "f"):
        waiting = joined(rounds, *(voice(name, windows=2) for name in some))
        waiting.join(10)
        assert not waiting.is_alive()
    assert passes.seen[:2] == [["a", "b", "c"], ["d", "e", "a"]]
    assert all(len(seen) <= 3 for seen in passes.seen)


def test_to_join_is_to_have_been_heard_once(rounds: Rounds, passes: Passes) -> None:
    waiting = joined(rounds, voice("a", windows=3))
    waiting.join(0.05)
    assert waiting.is_alive()
    passes.may.release(1)
    waiting.join(10)
    assert not waiting.is_alive()
    assert passes.seen[0] == ["a"]


def test_nobody_joins_what_is_closed(passes: Passes) -> None:
    rounds = Rounds(passes.listen, most=3)
    waiting = joined(rounds, voice("a"))
    passes.may.release(1)
    rounds.close()
    waiting.join(10)
    assert not waiting.is_alive()
