"""Observations of a rollout: what is kept, counted, rounded, and read back as it was written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.rollouts.observations import KEPT, VARIANTS, Observation, Observations, Pair

pytestmark = pytest.mark.slow

numbers = st.floats(0, 1e6)
observations = st.builds(
    Observation,
    latency_s=numbers,
    error=st.sampled_from(("", "", "model_failed", "wrong_shape")) | st.text(min_size=1, max_size=8).filter(str.isprintable),
    empty=st.booleans(),
    repetitive=st.booleans(),
    logprob=st.none() | st.floats(-100, 0),
    cpu_s=st.none() | numbers,
    step=st.integers(-1, 99),
)
counts = st.none() | st.integers(0, 10_000)
pairs = st.builds(Pair, words=counts, word_errors=counts, pixels=st.none() | st.floats(0, 1), picture=st.none() | st.floats(0, 2))


def seen(made: list[tuple[str, Observation]], compared: list[Pair]) -> Observations:
    found = Observations()
    for variant, observation in made:
        found.observe(variant, observation)
    for pair in compared:
        found.pair(pair)
    return found


of_a_replica = st.builds(seen, st.lists(st.tuples(st.sampled_from(VARIANTS), observations)), st.lists(pairs))


@given(of_a_replica)
def test_what_is_written_is_read_back(found: Observations) -> None:
    assert Observations.load(found.dump()) == found


@settings(max_examples=50)
@given(st.lists(of_a_replica, max_size=4))
def test_together_the_replicas_have_the_sums_of_their_counts_and_all_their_observations(replicas: list[Observations]) -> None:
    together = Observations.merged(replicas)
    assert together.pairs == len(together.pair_window) == sum(one.pairs for one in replicas)
    for variant in VARIANTS:
        assert together.requests[variant] == sum(one.requests[variant] for one in replicas)
        assert together.errors[variant].total() == sum(one.errors[variant].total() for one in replicas)
        assert len(together.latest(variant)) == together.requests[variant]


def test_totals_count_all_and_the_last_500_are_kept() -> None:
    found = Observations()
    for number in range(KEPT + 20):
        found.observe("candidate", Observation(float(number), "model_failed" if number < 30 else ""))
        found.pair(Pair(words=number))
    assert found.requests == {"candidate": KEPT + 20}
    assert found.errors["candidate"] == {"model_failed": 30}
    assert [one.latency_s for one in found.latest("candidate")] == list(range(20, KEPT + 20))
    assert found.pairs == KEPT + 20
    assert [pair.words for pair in found.pair_window] == list(range(20, KEPT + 20))
    assert Observations.load(found.dump()) == found


def test_a_step_has_its_own_observations() -> None:
    found = seen([("candidate", Observation(1.0, step=step)) for step in (-1, 0, 0, 1)], [])
    assert [len(found.latest("candidate", step)) for step in (-1, 0, 1, 2)] == [1, 2, 1, 0]
    assert len(found.latest("candidate")) == 4


def test_full_windows_are_well_under_100_kib() -> None:
    found = Observations()
    for number in range(KEPT):
        for variant in VARIANTS:
            found.observe(variant, Observation(number / 7, "an_error_with_a_long_code", True, True, -number / 7, number / 7, 99))
        found.pair(Pair(1000, 1000, number / 7000, number / 7000))
    assert len(found.dump()) < 60_000


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(number: float) -> None:
    for observation in (Observation(number), Observation(1.0, logprob=number), Observation(1.0, cpu_s=number)):
        with pytest.raises(ValueError, match="not finite"):
            Observations().observe("stable", observation)
    with pytest.raises(ValueError, match="not finite"):
        Observations().pair(Pair(pixels=number))


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Observations.load(content)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("codes", []),
        ("codes", [1]),
        ("codes", ["model_failed", "busy"]),
        ("requests", [1]),
        ("requests", [0, 1]),
        ("requests", [-1, 1]),
        ("errors", [[2], [0]]),
        ("errors", [[], []]),
        ("pairs", 0),
        ("pairs", 1.5),
        ("windows", [[[1.0, 2, 0, 0, None, None, -1]], []]),
        ("windows", [[[-1.0, 0, 0, 0, None, None, -1]], []]),
        ("windows", [[[1.0, 0, 2, 0, None, None, -1]], []]),
        ("windows", [[[1.0, 0, 0, 0, "0", None, -1]], []]),
        ("windows", [[[1.0, 0, 0, 0, None, None]], []]),
        ("windows", [[[float("nan"), 0, 0, 0, None, None, -1]], []]),
        ("pair_window", [[1, 2, None]]),
        ("pair_window", [[1, -2, None, None]]),
        ("pair_window", [[1, 2, None, None]] * (KEPT + 1)),
        ("more", 1),
    ],
)
def test_malformed_content_is_refused(field: str, value: object) -> None:
    found = seen([("stable", Observation(1.0, "model_failed")), ("candidate", Observation(2.0))], [Pair(10, 1)])
    content = json.loads(found.dump())
    Observations.load(json.dumps(content).encode())
    with pytest.raises(ValueError):  # noqa: PT011
        Observations.load(json.dumps(content | {field: value}).encode())


def test_a_missing_field_is_refused() -> None:
    content = json.loads(Observations().dump())
    for field in content:
        with pytest.raises(ValueError, match=field):
            Observations.load(json.dumps({name: value for name, value in content.items() if name != field}).encode())
