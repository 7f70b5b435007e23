"""The judgement: each budget's states and sentence, and the simulated time until a bad candidate is found and a good one is not."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from graphs.rollouts.judge import RULES, Verdict, figures, judge
from graphs.rollouts.observations import VARIANTS, Observation, Observations, Pair
from graphs.rollouts.state import Budgets, Labelled

OK = Observation(1.0)
FAILED = Observation(1.0, "model_failed")


def budgets(**bounds: float) -> Budgets:
    return Budgets(**{"max_errors": None} | bounds)


def seen(stable: list[Observation] = (), candidate: list[Observation] = (), pairs: list[Pair] = ()) -> Observations:
    found = Observations()
    for variant, made in zip(VARIANTS, (stable, candidate), strict=True):
        for one in made:
            found.observe(variant, one)
    for pair in pairs:
        found.pair(pair)
    return found


def judged(observations: Observations, labelled: Labelled | None = None, step: int | None = None, **bounds: float) -> Verdict:
    (verdict,) = judge(budgets(**bounds), observations, labelled, step)
    return verdict


def test_each_budget_that_is_set_has_a_verdict() -> None:
    assert judge(budgets(), Observations(), None) == []
    every = dict.fromkeys(Budgets.model_fields, 0.5)
    verdicts = judge(Budgets(**every), Observations(), None)
    assert [verdict.budget for verdict in verdicts] == list(Budgets.model_fields)
    assert {verdict.state for verdict in verdicts} == {"undecided"}
    assert set(RULES) == set(Budgets.model_fields) - {"max_word_errors"}


def test_a_candidate_that_fails_its_first_five_requests_is_broken() -> None:
    assert judged(seen(candidate=[FAILED] * 4), max_errors=0.01).state == "undecided"
    verdict = judged(seen(candidate=[FAILED] * 5), max_errors=0.01)
    assert (verdict.state, verdict.estimate, verdict.n) == ("broken", 1.0, 5)
    assert verdict.sentence == (
        "share of failed requests beyond the stable model's is 100% (25% to 100%) of 5 requests, the budget is 1%"
    )


def test_an_outage_of_both_models_is_not_the_candidates() -> None:
    assert judged(seen([FAILED] * 20, [FAILED] * 20), max_errors=0.01).state == "within"
    assert judged(seen([OK] * 20, [FAILED] * 20), max_errors=0.01).state == "broken"


def test_one_error_is_no_proof() -> None:
    assert judged(seen(candidate=[OK] * 30), max_errors=0.01).state == "within"
    assert judged(seen(candidate=[FAILED] + [OK] * 30), max_errors=0.01).state == "undecided"


@pytest.mark.parametrize(("budget", "trait"), [("max_empty", "empty"), ("max_repetition", "repetitive")])
def test_a_trait_counts_beyond_the_stable_models_share_and_its_uncertainty(budget: str, trait: str) -> None:
    has = replace(OK, **{trait: True})
    half = [has, OK] * 50
    assert judged(seen(half, half), **{budget: 0.02}).state == "within"
    assert judged(seen([OK] * 100, half), **{budget: 0.02}).state == "broken"
    assert judged(seen([OK] * 4, half), **{budget: 0.02}).state == "undecided"
    assert judged(seen([OK] * 5, [has] * 5), **{budget: 0.02}).state == "undecided"
    assert judged(seen([OK] * 100, [has, OK, OK, OK, OK]), **{budget: 0.02}).state == "undecided"


def test_a_request_that_failed_has_no_quality_metrics_and_no_time() -> None:
    failed = Observation(99.0, "model_failed", empty=True, cpu_s=99.0)
    fine = Observation(1.0, cpu_s=1.0)
    found = seen([fine] * 30, [fine, failed] * 30)
    for budget in ("max_p50", "max_p95", "max_cpu"):
        assert judged(found, **{budget: 1.2}).estimate == 1.0
    assert judged(found, max_empty=0.01).estimate == 0.0


def times(*latencies_s: float) -> list[Observation]:
    return [Observation(latency_s, cpu_s=latency_s) for latency_s in latencies_s]


@pytest.mark.parametrize(("budget", "least"), [("max_p50", 10), ("max_p95", 20), ("max_cpu", 10)])
def test_a_ratio_of_times_needs_requests_of_both(budget: str, least: int) -> None:
    fast, slow = times(*[1.0] * least), times(*[2.0] * least)
    assert judged(seen(fast, slow), **{budget: 1.2}).state == "broken"
    assert judged(seen(slow, fast), **{budget: 1.2}).state == "within"
    for found in (seen(fast[1:], slow), seen(fast, slow[1:])):
        verdict = judged(found, **{budget: 1.2})
        assert (verdict.state, verdict.estimate, verdict.low, verdict.high) == ("undecided", None, None, None)
        assert f"at least {least} of each are needed" in verdict.sentence


def test_a_ratio_of_times_is_told_as_a_multiple() -> None:
    verdict = judged(seen(times(*[1.0] * 20), times(*[1.96] * 30)), max_p95=1.25)
    assert verdict.sentence == (
        "95th percentile of time as a multiple of the stable model's is 1.96 (1.96 to 1.96) "
        "of 30 requests of the candidate and 20 of the stable model, the budget is 1.25"
    )


def test_only_the_requests_of_the_step_count_where_one_is_given() -> None:
    before, now = [Observation(9.0, step=0)] * 20, [Observation(1.0, step=1)] * 20
    found = seen([Observation(1.0, step=step) for step in (0, 1)] * 20, before + now)
    assert judged(found, step=1, max_p50=1.2).state == "within"
    assert judged(found, step=0, max_p50=1.2).state == "broken"
    assert judged(found, step=2, max_p50=1.2).state == "undecided"


def test_a_fall_of_the_log_probability_is_told_in_nats() -> None:
    stable, candidate = ([Observation(1.0, logprob=level - i / 100) for i in range(20)] for level in (-0.2, -0.5))
    verdict = judged(seen(stable, candidate), max_logprob_drop=0.1)
    assert verdict.state == "broken"
    assert verdict.estimate == pytest.approx(0.3)
    assert "is 0.3 nats (0.23 nats to 0.37 nats)" in verdict.sentence
    assert judged(seen(candidate, stable), max_logprob_drop=0.1).state == "within"
    assert judged(seen([OK] * 20, [OK] * 20), max_logprob_drop=0.1).state == "undecided"


def test_word_drift_is_of_all_words_and_told_with_their_number() -> None:
    pairs = [Pair(10, 1), Pair(40, 4)] * 10
    verdict = judged(seen(pairs=pairs), max_word_drift=0.03)
    assert (verdict.state, verdict.estimate, verdict.n) == ("broken", 0.1, 20)
    assert verdict.sentence.startswith("word drift is 10% (")
    assert verdict.sentence.endswith(" of 500 words in 20 pairs, the budget is 3%")
    assert judged(seen(pairs=pairs[:9]), max_word_drift=0.03).state == "undecided"
    assert judged(seen(pairs=pairs), max_word_drift=0.1).state == "within"


@pytest.mark.parametrize(("budget", "field"), [("max_pixel_drift", "pixels"), ("max_picture_drift", "picture")])
def test_the_drift_of_pictures_is_the_pairs_mean(budget: str, field: str) -> None:
    pairs = [Pair(**{field: number}) for number in (0.04, 0.05, 0.06) * 5]
    assert judged(seen(pairs=pairs), **{budget: 0.03}).state == "broken"
    assert judged(seen(pairs=pairs), **{budget: 0.05}).estimate == pytest.approx(0.05)
    assert judged(seen(pairs=pairs), **{budget: 0.06}).state == "within"
    assert judged(seen(pairs=pairs), **{budget: 0.0499}).state == "undecided"
    assert judged(seen(pairs=[Pair(10, 1)] * 20), **{budget: 0.03}).state == "undecided"


@pytest.mark.parametrize(
    ("stable", "candidate", "state"),
    [(10, 12, "within"), (10, 13, "broken"), (0, 0, "within"), (0, 1, "broken"), (10, 0, "within")],
)
def test_word_errors_on_labelled_recordings_are_a_count(stable: int, candidate: int, state: str) -> None:
    labelled = Labelled(recordings=8, words=200, stable=stable, candidate=candidate)
    verdict = judged(Observations(), labelled, max_word_errors=1.2)
    assert verdict.state == state
    assert verdict.sentence == (
        f"word errors are {candidate} of 200 words of 8 labelled recordings, the stable model's {stable}, "
        "the budget is 1.2 times those"
    )


def test_the_figures_of_no_request_are_none() -> None:
    found = figures(Observations())
    for variant in VARIANTS:
        assert found[variant] == {"requests": 0, "errors": {}} | dict.fromkeys(
            ("p50_s", "p95_s", "cpu_s", "empty", "repetitive", "logprob")
        )
    assert found["pairs"] == {"count": 0, "word_drift": None, "pixel_drift": None, "picture_drift": None}


def test_the_figures_are_json_and_those_of_the_requests_that_succeeded() -> None:
    made = [Observation(number / 10, empty=number == 1, logprob=-0.2) for number in range(1, 21)]
    found = figures(seen(made, [*made, FAILED], [Pair(10, 1)] * 4))
    assert json.loads(json.dumps(found)) == found
    assert found["candidate"] == found["stable"] | {"requests": 21, "errors": {"model_failed": 1}}
    assert found["stable"]["p50_s"] == 1.0
    assert found["stable"]["p95_s"] == 1.9
    assert found["stable"]["empty"] == 0.05
    assert found["stable"]["logprob"] == pytest.approx(-0.2)
    assert found["pairs"]["count"] == 4
    drift = found["pairs"]["word_drift"]
    assert 0 <= drift["low"] < drift["value"] == 0.1 < drift["high"]


Look = Callable[[random.Random, Observations], None]


def first_broken(seed: int, look: Look, looks: int = 300, **bounds: float) -> int | None:
    """The number of looks after which a budget is broken; each look sees one pair of requests more."""
    chance, found, checked = random.Random(seed), Observations(), budgets(**bounds)
    for number in range(1, looks + 1):
        look(chance, found)
        if any(verdict.state == "broken" for verdict in judge(checked, found, None)):
            return number
    return None


def pair_of(slower: float = 1.0, wrong: float = 0.0, **metrics: Any) -> Look:
    """Requests whose times vary by a factor of 1.2 either way, and transcripts of 10 words with a part of them wrong."""

    def look(chance: random.Random, found: Observations) -> None:
        found.observe("stable", Observation(chance.lognormvariate(0, 0.2)))
        found.observe("candidate", Observation(slower * chance.lognormvariate(0, 0.2), **metrics))
        found.pair(Pair(10, sum(chance.random() < wrong for _ in range(10))))

    return look


@pytest.mark.parametrize(
    ("look", "bounds"),
    [
        (pair_of(wrong=0.1), {"max_word_drift": 0.03}),
        (pair_of(slower=2), {"max_p95": 1.2}),
        (pair_of(slower=2), {"max_p50": 1.2}),
        (pair_of(empty=True), {"max_empty": 0.02}),
        (pair_of(error="model_failed"), {"max_errors": 0.01}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_candidate_is_found_within_sixty_pairs(look: Look, bounds: dict[str, float]) -> None:
    found = [first_broken(seed, look, **bounds) for seed in range(20)]
    assert None not in found
    assert median(found) <= 60


@pytest.mark.slow
def test_a_good_candidate_is_never_found_broken_however_often_it_is_judged() -> None:
    bounds = {"max_errors": 0.01, "max_p50": 1.2, "max_p95": 1.2, "max_word_drift": 0.03, "max_empty": 0.02}
    found = {seed: first_broken(seed, pair_of(wrong=0.005), **bounds) for seed in range(20)}
    assert found == dict.fromkeys(range(20))
