"""The line before a stage: first come, first served, and no slot is lost by whoever leaves it."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.core.policies.queue import FifoLimiter


class Line:
    """A limiter, and the callers before and inside it, by number."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.limiter = FifoLimiter(lambda: self.slots)
        self.tasks: list[asyncio.Task[None]] = []
        self.positions: list[list[int]] = []
        self.entered: list[int] = []
        self._leave: list[asyncio.Event] = []

    def come(self) -> int:
        number = len(self.tasks)
        self.positions.append([])
        self._leave.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self._caller(number, self.positions[number].append)))
        return number

    async def _caller(self, number: int, on_position: Callable[[int], None]) -> None:
        async with self.limiter.slot(on_position):
            self.entered.append(number)
            await self._leave[number].wait()

    def leave(self, number: int) -> None:
        """Once the loop runs, by itself; before it is inside, as soon as it is."""
        self._leave[number].set()

    @property
    def here(self) -> list[int]:
        return [number for number, task in enumerate(self.tasks) if not task.done()]

    @property
    def inside(self) -> list[int]:
        return [number for number in self.here if number in self.entered]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Everyone goes; whatever was lost on the way shows here."""
        for number in range(len(self.tasks)):
            self.leave(number)
        for _ in self.tasks:  # each that leaves lets in another one
            await self.settle()
        assert all(task.done() for task in self.tasks), "someone waits for a slot that nobody holds"
        assert (self.limiter.running, self.limiter.waiting) == (0, 0)


async def line(slots: int, callers: int) -> Line:
    line = Line(slots)
    for _ in range(callers):
        line.come()
    await line.settle()
    return line


async def test_as_many_as_there_are_slots_get_in_at_once_and_hear_nothing() -> None:
    waiting = await line(slots=2, callers=2)
    assert (waiting.limiter.running, waiting.limiter.waiting) == (2, 0)
    assert waiting.positions == [[], []]
    await waiting.end()


async def test_the_others_hear_their_place_and_each_move_until_they_are_in() -> None:
    waiting = await line(slots=1, callers=4)
    assert waiting.positions == [[], [1], [2], [3]]
    waiting.leave(0)
    await waiting.settle()
    assert waiting.positions == [[], [1], [2, 1], [3, 2]]
    assert (waiting.limiter.running, waiting.limiter.waiting) == (1, 2)
    await waiting.end()
    assert waiting.entered == [0, 1, 2, 3]


async def test_who_comes_while_a_slot_is_being_handed_on_waits_behind_the_others() -> None:
    waiting = await line(slots=1, callers=2)
    waiting.leave(0)
    await asyncio.wait([waiting.tasks[0]])
    waiting.come()
    await waiting.settle()
    assert waiting.inside == [1]
    assert waiting.positions[2] == [1]
    await waiting.end()


async def test_who_leaves_the_queue_leaves_no_trace_and_the_others_move_up() -> None:
    waiting = await line(slots=1, callers=4)
    waiting.tasks[1].cancel()
    await waiting.settle()
    assert waiting.tasks[1].cancelled()
    assert waiting.limiter.waiting == 2
    assert waiting.positions[2:] == [[2, 1], [3, 2]]
    await waiting.end()
    assert waiting.entered == [0, 2, 3]


async def test_a_slot_that_is_granted_at_the_moment_of_leaving_goes_to_the_next() -> None:
    waiting = await line(slots=1, callers=3)
    waiting.slots = 2
    waiting.limiter.recheck()
    waiting.tasks[1].cancel()  # granted, and has not run since
    waiting.slots = 1
    await waiting.settle()
    assert waiting.tasks[1].cancelled()
    assert (waiting.limiter.running, waiting.limiter.waiting) == (1, 1)
    waiting.leave(0)
    await waiting.settle()
    assert waiting.inside == [2]
    await waiting.end()


async def test_a_slot_is_not_granted_to_one_that_has_just_been_cancelled() -> None:
    waiting = await line(slots=1, callers=3)
    waiting.tasks[1].cancel()
    waiting.slots = 2
    waiting.limiter.recheck()
    assert (waiting.limiter.running, waiting.limiter.waiting) == (2, 0)
    await waiting.settle()
    assert waiting.inside == [0, 2]
    await waiting.end()


async def test_a_caller_that_fails_or_is_cancelled_inside_frees_its_slot() -> None:
    waiting = await line(slots=1, callers=2)
    waiting.tasks[0].cancel()
    await waiting.settle()
    assert waiting.inside == [1]
    await waiting.end()
    with pytest.raises(ValueError, match="x"):
        async with waiting.limiter.slot():
            raise ValueError("x")
    assert waiting.limiter.running == 0


async def test_more_replicas_let_more_in_and_fewer_send_nobody_away() -> None:
    waiting = await line(slots=1, callers=6)
    waiting.slots = 3
    waiting.limiter.recheck()
    await waiting.settle()
    assert waiting.inside == [0, 1, 2]
    waiting.slots = 1
    waiting.leave(0)
    waiting.leave(1)
    await waiting.settle()
    assert waiting.inside == [2], "what is above the bound is not filled again"
    waiting.leave(2)
    await waiting.settle()
    assert waiting.inside == [3]
    await waiting.end()


@pytest.mark.parametrize("slots", [0, -5])
async def test_without_any_replica_one_may_still_try(slots: int) -> None:
    waiting = await line(slots, callers=2)
    assert waiting.inside == [0]
    await waiting.end()


NAMES = ("come", "run", "settle", "leave", "leave", "cancel", "cancel", "resize")
ACTIONS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5)), min_size=5, max_size=60)


async def follow(callers: int, actions: list[tuple[str, int]]) -> None:
    """`actions`: the name, and a number: how many come, how many slots there are from now on, or whose turn it is."""
    line = Line(1)
    most = 1
    for action, number in [("come", callers), *actions]:
        if action == "come":
            for _ in range(number):
                line.come()
        elif action == "run":
            await asyncio.sleep(0)
        elif action == "settle":
            await line.settle()
        elif action == "resize":
            line.slots = number
            line.limiter.recheck()
        elif action == "leave" and line.inside:
            line.leave(line.inside[number % len(line.inside)])
        elif action == "cancel" and line.here:
            line.tasks[line.here[number % len(line.here)]].cancel()
        most = max(most, line.slots)
        assert line.limiter.running <= most
        assert line.entered == sorted(line.entered), "first come, first served"
        if action == "settle":
            waiting = [number for number in line.here if number not in line.entered]
            assert (line.limiter.running, line.limiter.waiting) == (len(line.inside), len(waiting))
            assert not waiting or line.limiter.running >= max(1, line.slots), "a slot is free, and someone waits"
            assert [line.positions[number][-1] for number in waiting] == list(range(1, len(waiting) + 1))
    await line.end()
    for number, task in enumerate(line.tasks):
        assert task.cancelled() or number in line.entered
        assert line.positions[number] == sorted(set(line.positions[number]), reverse=True), (
            "each place is told once, and they fall"
        )


@settings(max_examples=400, deadline=None)
@given(st.integers(2, 6), ACTIONS)
def test_whatever_comes_leaves_and_changes_the_line_keeps_its_order_and_loses_no_slot(
    callers: int, actions: list[tuple[str, int]]
) -> None:
    asyncio.run(follow(callers, actions))
