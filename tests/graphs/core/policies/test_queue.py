"""The queue before a stage: first come, first served, and a cancelled caller loses no slot."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphs.core.policies.queue import FifoLimiter


class Callers:
    """A limiter with its waiting and admitted callers, by number."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.limiter = FifoLimiter(lambda: self.slots)
        self.tasks: list[asyncio.Task[None]] = []
        self.positions: list[list[int]] = []
        self.entered: list[int] = []
        self._release: list[asyncio.Event] = []

    def add(self) -> int:
        number = len(self.tasks)
        self.positions.append([])
        self._release.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self._caller(number, self.positions[number].append)))
        return number

    async def _caller(self, number: int, on_position: Callable[[int], None]) -> None:
        async with self.limiter.slot(on_position):
            self.entered.append(number)
            await self._release[number].wait()

    def release(self, number: int) -> None:
        """Let the caller return: in the event loop's next iteration, or once it is admitted."""
        self._release[number].set()

    @property
    def active(self) -> list[int]:
        return [number for number, task in enumerate(self.tasks) if not task.done()]

    @property
    def admitted(self) -> list[int]:
        return [number for number in self.active if number in self.entered]

    @property
    def overtaken(self) -> list[int]:
        """Return the callers older than one that entered.

        A caller that arrives at a free slot enters at once, before an older one wakes whose slot is already granted.
        """
        newest = max(self.entered, default=0)
        waiting = [number for number in self.active if number not in self.entered and not self.tasks[number].cancelling()]
        return [number for number in waiting if number < newest]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Release all callers, and check that no slot was lost."""
        for number in range(len(self.tasks)):
            self.release(number)
        for _ in self.tasks:  # each released caller admits another one
            await self.settle()
        assert all(task.done() for task in self.tasks), "a caller waits for a slot that no other caller holds"
        assert (self.limiter.running, self.limiter.waiting) == (0, 0)


async def start(slots: int, count: int) -> Callers:
    callers = Callers(slots)
    for _ in range(count):
        callers.add()
    await callers.settle()
    return callers


async def test_as_many_callers_as_slots_are_admitted_at_once_without_a_position() -> None:
    callers = await start(slots=2, count=2)
    assert (callers.limiter.running, callers.limiter.waiting) == (2, 0)
    assert callers.positions == [[], []]
    await callers.end()


async def test_waiting_callers_learn_their_position_and_each_change_until_they_are_admitted() -> None:
    callers = await start(slots=1, count=4)
    assert callers.positions == [[], [1], [2], [3]]
    callers.release(0)
    await callers.settle()
    assert callers.positions == [[], [1], [2, 1], [3, 2]]
    assert (callers.limiter.running, callers.limiter.waiting) == (1, 2)
    await callers.end()
    assert callers.entered == [0, 1, 2, 3]


async def test_a_caller_that_arrives_while_a_slot_is_being_passed_on_waits_behind_the_others() -> None:
    callers = await start(slots=1, count=2)
    callers.release(0)
    await asyncio.wait([callers.tasks[0]])
    callers.add()
    await callers.settle()
    assert callers.admitted == [1]
    assert callers.positions[2] == [1]
    await callers.end()


async def test_a_cancelled_waiting_caller_is_removed_and_the_others_move_up() -> None:
    callers = await start(slots=1, count=4)
    callers.tasks[1].cancel()
    await callers.settle()
    assert callers.tasks[1].cancelled()
    assert callers.limiter.waiting == 2
    assert callers.positions[2:] == [[2, 1], [3, 2]]
    await callers.end()
    assert callers.entered == [0, 2, 3]


async def test_a_slot_granted_to_a_caller_that_is_then_cancelled_goes_to_the_next() -> None:
    callers = await start(slots=1, count=3)
    callers.slots = 2
    callers.limiter.recheck()
    callers.tasks[1].cancel()  # its slot is granted, but it has not run since
    callers.slots = 1
    await callers.settle()
    assert callers.tasks[1].cancelled()
    assert (callers.limiter.running, callers.limiter.waiting) == (1, 1)
    callers.release(0)
    await callers.settle()
    assert callers.admitted == [2]
    await callers.end()


async def test_a_slot_is_not_granted_to_a_caller_that_has_just_been_cancelled() -> None:
    callers = await start(slots=1, count=3)
    callers.tasks[1].cancel()
    callers.slots = 2
    callers.limiter.recheck()
    assert (callers.limiter.running, callers.limiter.waiting) == (2, 0)
    await callers.settle()
    assert callers.admitted == [0, 2]
    await callers.end()


async def test_an_admitted_caller_that_fails_or_is_cancelled_frees_its_slot() -> None:
    callers = await start(slots=1, count=2)
    callers.tasks[0].cancel()
    await callers.settle()
    assert callers.admitted == [1]
    await callers.end()
    with pytest.raises(ValueError, match="x"):
        async with callers.limiter.slot():
            raise ValueError("x")
    assert callers.limiter.running == 0


async def test_more_slots_admit_more_callers_and_fewer_slots_evict_none() -> None:
    callers = await start(slots=1, count=6)
    callers.slots = 3
    callers.limiter.recheck()
    await callers.settle()
    assert callers.admitted == [0, 1, 2]
    callers.slots = 1
    callers.release(0)
    callers.release(1)
    await callers.settle()
    assert callers.admitted == [2], "slots above the bound are not granted again"
    callers.release(2)
    await callers.settle()
    assert callers.admitted == [3]
    await callers.end()


@pytest.mark.parametrize("slots", [0, -5])
async def test_without_any_slot_one_caller_is_still_admitted(slots: int) -> None:
    callers = await start(slots, count=2)
    assert callers.admitted == [0]
    await callers.end()


NAMES = ("add", "run", "settle", "release", "release", "cancel", "cancel", "resize")
ACTIONS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5)), min_size=5, max_size=60)


async def follow(count: int, actions: list[tuple[str, int]]) -> None:
    """Apply `actions`: a name, and a number of new callers, of slots, or of the caller that it applies to."""
    callers = Callers(1)
    most = 1
    for action, number in [("add", count), *actions]:
        if action == "add":
            for _ in range(number):
                callers.add()
        elif action == "run":
            await asyncio.sleep(0)
        elif action == "settle":
            await callers.settle()
        elif action == "resize":
            callers.slots = number
            callers.limiter.recheck()
        elif action == "release" and callers.admitted:
            callers.release(callers.admitted[number % len(callers.admitted)])
        elif action == "cancel" and callers.active:
            callers.tasks[callers.active[number % len(callers.active)]].cancel()
        most = max(most, callers.slots)
        assert callers.limiter.running <= most
        assert len(callers.overtaken) <= callers.limiter.running - len(callers.admitted), "first come, first served"
        if action == "settle":
            waiting = [number for number in callers.active if number not in callers.entered]
            assert (callers.limiter.running, callers.limiter.waiting) == (len(callers.admitted), len(waiting))
            assert callers.overtaken == []
            assert not waiting or callers.limiter.running >= max(1, callers.slots), "a slot is free while a caller waits"
            assert [callers.positions[number][-1] for number in waiting] == list(range(1, len(waiting) + 1))
    await callers.end()
    for number, task in enumerate(callers.tasks):
        assert task.cancelled() or number in callers.entered
        assert callers.positions[number] == sorted(set(callers.positions[number]), reverse=True), (
            "each position is reported once, in falling order"
        )


@settings(max_examples=400, deadline=None)
@given(st.integers(2, 6), ACTIONS)
@example(2, [("add", 0), ("run", 0), ("add", 1), ("resize", 3), ("run", 0)])
def test_slots_are_granted_in_order_and_none_is_lost(callers: int, actions: list[tuple[str, int]]) -> None:
    asyncio.run(follow(callers, actions))
