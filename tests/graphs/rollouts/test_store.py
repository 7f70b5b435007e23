"""The store of revisions: one writer of several makes each change."""

from typing import Any

import pytest
from pydantic import ValidationError

from graphs.rollouts.state import Budgets, Plan, Rollout
from graphs.rollouts.store import KEPT, Memory, Store


def rollout(**fields: Any) -> Rollout:
    given = {"stage": "whisper", "application": "candidate", "id": "abc", "started_at": 1.0, "changed_at": 1.0, "written_at": 1.0}
    return Rollout.model_validate({**given, **fields})


def test_a_revision_is_written_once() -> None:
    values = Memory()
    one, other = Store(values, "sonograph"), Store(values, "sonograph")
    first = rollout()
    assert one.write(first)
    assert not other.write(first.changed(2.0, share=50).model_copy(update={"revision": 1}))
    assert other.latest() == {"whisper": 1}
    assert other.read("whisper", 1) == first
    assert other.write(first.changed(2.0, share=50))
    assert one.read("whisper", 2) == rollout(share=50, changed_at=2.0, written_at=2.0, revision=2)


class Unheard(Memory):
    """Values that add a key, and answer as the second of two same requests is answered: that the key exists."""

    def add(self, key: str, value: bytes) -> bool:
        super().add(key, value)
        return False


def test_a_revision_whose_answer_was_lost_is_its_writers() -> None:
    values = Unheard()
    one, other = Store(values, "sonograph"), Store(values, "sonograph")
    first = rollout()
    assert one.write(first)
    assert not other.write(first)
    assert one.remove("whisper", 2)
    assert not other.remove("whisper", 2)
    assert one.read("whisper", 1) == first


def test_nothing_can_fail_between_the_writing_of_a_revision_and_its_line_in_the_log() -> None:
    """The oldest revision goes before: a failure there writes nothing."""

    class NoDeletes(Memory):
        def delete(self, key: str) -> None:
            raise ConnectionError

    values = NoDeletes()
    with pytest.raises(ConnectionError):
        Store(values, "sonograph").write(rollout())
    assert not values.keys("")


def test_the_history_is_bounded() -> None:
    values = Memory()
    store = Store(values, "sonograph")
    one = rollout()
    for number in range(KEPT + 20):
        assert store.write(one)
        one = one.changed(float(number), mirror=number % 100)
    assert [kept.revision for kept in store.history("whisper")] == list(range(21, KEPT + 21))
    assert len(values.keys("")) == KEPT


def test_a_removed_rollout_is_none_and_its_number_is_not_used_again() -> None:
    store = Store(Memory(), "sonograph")
    store.write(rollout())
    assert store.remove("whisper", 2)
    assert store.latest() == {"whisper": 2}
    assert store.read("whisper", 2) is None
    assert not store.write(rollout(revision=2))


def test_two_services_in_one_cluster_have_rollouts_of_their_own() -> None:
    values = Memory()
    Store(values, "sonograph").write(rollout())
    assert Store(values, "other").latest() == {}


def test_the_observations_of_ended_rollouts_are_removed() -> None:
    store = Store(Memory(), "sonograph")
    store.put_scores("whisper", "old", "replica-1", b"1")
    store.put_scores("whisper", "new", "replica-2", b"2")
    store.remove_scores("whisper", keep="new")
    assert store.scores("whisper", "old") == {}
    assert store.scores("whisper", "new") == {"replica-2": b"2"}
    store.remove_scores("whisper")
    assert store.scores("whisper", "new") == {}


def test_the_time_of_the_share_moves_with_the_share_alone() -> None:
    one = rollout()
    assert one.changed(5.0, status="paused").changed_at == 1.0
    assert one.changed(5.0, share=10).changed_at == 5.0


@pytest.mark.parametrize("steps", [(), (20, 5), (5, 5), (50, 120), (-1, 5), (float("nan"),)])
def test_steps_that_do_not_rise_within_all_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Plan(steps=steps)


@pytest.mark.parametrize(
    "budget", [{"max_errors": 0}, {"max_errors": 1.5}, {"max_p95": 0.01}, {"max_word_drift": "x"}, {"max": 1}]
)
def test_a_budget_out_of_its_bounds_is_refused(budget: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Budgets.model_validate(budget)
