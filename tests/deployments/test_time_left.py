"""One deadline, sent between processes as the time that is left."""

import copy
import pickle
import time

from deployments.time_left import TimeLeft


def test_time_runs_down_and_never_below_zero() -> None:
    time_left = TimeLeft(5)
    first = time_left.seconds
    assert 0 < first <= 5
    time.sleep(0.01)
    assert time_left.seconds < first
    assert TimeLeft(0).seconds == TimeLeft(-5).seconds == 0


def test_the_seconds_left_arrive_whatever_the_receivers_clock() -> None:
    time_left = TimeLeft(100)
    time.sleep(0.01)
    sent = pickle.dumps(time_left)
    left = time_left.seconds
    time.sleep(1)
    arrived = pickle.loads(sent)
    assert type(arrived) is TimeLeft
    assert time_left.seconds <= left - 1
    assert left - 0.9 < arrived.seconds <= 100 - 0.01, "the time in transit cannot be measured, and does not count"


def test_only_seconds_travel() -> None:
    assert b"monotonic" not in pickle.dumps(TimeLeft(5))
    assert len(pickle.dumps(TimeLeft(5))) < 200


def test_a_copy_ends_no_later() -> None:
    time_left = TimeLeft(10)
    time.sleep(0.01)
    assert copy.copy(time_left).seconds <= 10 - 0.01
