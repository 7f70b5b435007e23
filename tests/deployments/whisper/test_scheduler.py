"""Pass after pass: who comes joins at the next, and a long recording holds nobody up for more than one."""

import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

from deployments.whisper.scheduler import Rounds, seats
from deployments.whisper.sequence import Recording, Spoken, Voice


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


class Long(Recording):
    """A recording in pieces of one window each."""

    def __init__(self, name: str, pieces: int) -> None:
        super().__init__()
        self.pieces = [voice(f"{name}{number}") for number in range(pieces)]

    @property
    def rows(self) -> list[Named]:
        return [piece for piece in self.pieces if not piece.done]

    @property
    def done(self) -> bool:
        return not self.rows

    @property
    def heard(self) -> bool:
        return self.pieces[0].heard


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def rounds(passes: Passes) -> Iterator[Rounds]:
    rounds = Rounds(passes.listen, most=3)
    yield rounds
    passes.may.release(100)
    rounds.close()


def joined(rounds: Rounds, *voices: Recording) -> threading.Thread:
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


@pytest.mark.parametrize(
    ("recordings", "most", "seated"),
    [
        pytest.param(["a"], 8, "a", id="one"),
        pytest.param(["abcde"], 8, "abcd", id="a long one alone has half"),
        pytest.param(["abcde"], 1, "a", id="of one seat"),
        pytest.param(["abcde", "x"], 8, "axbcd", id="a short one is there too"),
        pytest.param(["abcde", "xyz"], 8, "axbyczd", id="two long ones take turns"),
        pytest.param(["abcde", "x", "y", "z"], 4, "axyz", id="more than one is for what nobody else wants"),
        pytest.param(["abcde", "vwxyz", "12"], 4, "av1b", id="the first comes first"),
        pytest.param([], 4, "", id="none"),
    ],
)
def test_each_has_a_seat_before_one_has_two(recordings: list[str], most: int, seated: str) -> None:
    assert "".join(seats(recordings, most)) == seated


def test_a_very_long_one_keeps_nobody_out(passes: Passes) -> None:
    rounds = Rounds(passes.listen, most=4)
    long = Long("long", pieces=20)
    passes.may.release(1)
    rounds.join([long])
    assert passes.seen == [["long0", "long1"]]
    others = joined(rounds, *(voice(name) for name in "abcde"))
    while len(rounds._voices) < 6:
        others.join(0.001)
    passes.may.release(100)
    others.join(10)
    assert not others.is_alive()
    turns = [turn for turn in passes.seen if set(turn) & set("abcde")]
    assert len(turns) == 2, "with four seats, of which the long one takes one while others wait"
    while rounds._voices:
        others.join(0.001)
    rounds.close()
    heard = [name for turn in passes.seen for name in turn]
    assert sorted(heard) == sorted([*"abcde", *(f"long{number}" for number in range(20))]), "each once"


def test_nobody_joins_what_is_closed(passes: Passes) -> None:
    rounds = Rounds(passes.listen, most=3)
    waiting = joined(rounds, voice("a"))
    passes.may.release(1)
    rounds.close()
    waiting.join(10)
    assert not waiting.is_alive()
