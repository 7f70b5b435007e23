"""Judgement of a rollout's candidate: each budget against what has been observed.

It is asked again every second, so its intervals are wide: a budget is broken once its one-sided bound of 99.9% lies beyond it.
A candidate that is just at its budget may still break it in time: in simulations of 300 looks 1 to 3 of 100 did, by ratios of times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

from graphs.core.policies.rollout import Variant
from graphs.rollouts import intervals
from graphs.rollouts.intervals import Interval
from graphs.rollouts.observations import VARIANTS, Observations
from graphs.rollouts.state import Budgets, Labelled

State = Literal["within", "broken", "undecided"]
TAIL = 0.001
"""Chance that a budget counts as broken at one look while the candidate just keeps it."""
STABLE_TAIL = 0.01
"""Chance that the stable model's own share is above the bound that the candidate's is compared with."""
FIGURES_TAIL = 0.025
LEAST_REQUESTS, LEAST, LEAST_P95 = 5, 10, 20
"""Requests for a share; pairs, or requests of each model, for a mean or a median; requests of each model for a 95th percentile."""


@dataclass(frozen=True)
class Verdict:
    """One budget's state. Estimate and interval are None with too little data."""

    budget: str
    """The field of Budgets."""
    bound: float
    estimate: float | None
    low: float | None
    """Broken once it is above the bound."""
    high: float | None
    n: int
    """Requests of the candidate, or pairs, or words of the labels."""
    state: State
    sentence: str


class _Unit(NamedTuple):
    factor: float = 1.0
    sign: str = ""
    digits: int = 2
    """Significant ones of an estimate."""

    def number(self, value: float, digits: int | None = None) -> str:
        return f"{float(f'{value * self.factor:.{digits or self.digits}g}') + 0.0:g}{self.sign}"


SHARE, TIMES, NATS = _Unit(100, "%"), _Unit(digits=3), _Unit(sign=" nats")


class _Sample(NamedTuple):
    of: str
    """Its size, such as `412 words in 41 pairs`."""
    sizes: tuple[int, ...]
    """Size of the candidate's sample or of the pairs, then of the stable model's where its requests are another sample."""
    interval: Callable[[float], Interval | None]
    """Interval by the chance that a bound misses. Needs 2 of each size."""


class _Data:
    """The observations that count: those of one step of the plan, or all."""

    def __init__(self, observations: Observations, step: int | None = None) -> None:
        self.pairs = list(observations.pair_window)
        self.made = {variant: observations.latest(variant, step) for variant in VARIANTS}
        self.succeeded = {variant: [one for one in made if not one.error] for variant, made in self.made.items()}

    def numbers(self, variant: Variant, name: str) -> list[float]:
        """One field of the requests that succeeded, where they have it."""
        found = (getattr(one, name) for one in self.succeeded[variant])
        return [number for number in found if number is not None]


def _errors(data: _Data) -> _Sample:
    """Failed requests. What the stable model fails of its own is no fault of the candidate: an outage of both breaks no budget."""
    (candidate, made), (stable, stable_made) = (
        (sum(bool(one.error) for one in data.made[variant]), len(data.made[variant])) for variant in ("candidate", "stable")
    )
    excused = stable / stable_made if stable_made else 0.0

    def interval(tail: float) -> Interval:
        return Interval(*(share - excused for share in intervals.share(candidate, made, tail)))

    return _Sample(f"{made} requests", (made,), interval)


def _excess(trait: str) -> Callable[[_Data], _Sample]:
    """Share of the candidate's results with a trait, less the stable model's, whose own uncertainty counts for the candidate."""

    def sample(data: _Data) -> _Sample:
        def found(variant: Variant, tail: float) -> Interval:
            results = data.succeeded[variant]
            return intervals.share(sum(getattr(one, trait) for one in results), len(results), tail)

        def interval(tail: float) -> Interval:
            stable = found("stable", max(tail, STABLE_TAIL))
            estimate, low, high = found("candidate", tail)
            return Interval(estimate - stable.estimate, low - stable.high, high - stable.low)

        return _both(interval, *(len(data.succeeded[variant]) for variant in ("candidate", "stable")))

    return sample


def _of_both(name: str, interval: Callable[[list[float], list[float], float], Interval | None]) -> Callable[[_Data], _Sample]:
    """A number of the candidate's requests, and of the stable model's."""

    def sample(data: _Data) -> _Sample:
        candidate, stable = data.numbers("candidate", name), data.numbers("stable", name)
        return _both(lambda tail: interval(candidate, stable, tail), len(candidate), len(stable))

    return sample


def _both(interval: Callable[[float], Interval | None], candidate: int, stable: int) -> _Sample:
    return _Sample(f"{candidate} requests of the candidate and {stable} of the stable model", (candidate, stable), interval)


def _quantile(quantile: float) -> Callable[[_Data], _Sample]:
    return _of_both("latency_s", lambda candidate, stable, tail: intervals.quantile_ratio(candidate, stable, quantile, tail))


def _words(data: _Data) -> _Sample:
    counts = [(pair.word_errors, pair.words) for pair in data.pairs if pair.words is not None and pair.word_errors is not None]
    errors, words = [errors for errors, _ in counts], [words for _, words in counts]
    of = f"{sum(words)} words in {len(counts)} pairs"
    return _Sample(of, (len(counts),), lambda tail: intervals.ratio(errors, words, tail))


def _difference(name: str) -> Callable[[_Data], _Sample]:
    """A number of the pairs."""

    def sample(data: _Data) -> _Sample:
        found = [number for pair in data.pairs if (number := getattr(pair, name)) is not None]
        return _Sample(f"{len(found)} pairs", (len(found),), lambda tail: intervals.mean(found, tail))

    return sample


class _Rule(NamedTuple):
    label: str
    unit: _Unit
    least: int
    sample: Callable[[_Data], _Sample]


RULES = {
    "max_errors": _Rule("share of failed requests beyond the stable model's", SHARE, LEAST_REQUESTS, _errors),
    "max_p50": _Rule("median time as a multiple of the stable model's", TIMES, LEAST, _quantile(0.5)),
    "max_p95": _Rule("95th percentile of time as a multiple of the stable model's", TIMES, LEAST_P95, _quantile(0.95)),
    "max_cpu": _Rule("CPU time as a multiple of the stable model's", TIMES, LEAST, _of_both("cpu_s", intervals.mean_ratio)),
    "max_empty": _Rule("share of empty results beyond the stable model's", SHARE, LEAST_REQUESTS, _excess("empty")),
    "max_repetition": _Rule(
        "share of repetitive results beyond the stable model's", SHARE, LEAST_REQUESTS, _excess("repetitive")
    ),
    "max_logprob_drop": _Rule(
        "fall of the mean log probability",
        NATS,
        LEAST,
        _of_both("logprob", lambda candidate, stable, tail: intervals.difference(stable, candidate, tail)),
    ),
    "max_word_drift": _Rule("word drift", SHARE, LEAST, _words),
    "max_pixel_drift": _Rule("pixel drift", SHARE, LEAST, _difference("pixels")),
    "max_picture_drift": _Rule("picture drift", SHARE, LEAST, _difference("picture")),
}
"""Rules by the field of Budgets; max_word_errors, a count, has none."""


def judge(budgets: Budgets, observations: Observations, labelled: Labelled | None, step: int | None = None) -> list[Verdict]:
    """A verdict for each budget that is not None. `step`: only requests of this step of the plan count; pairs of all steps do."""
    data = _Data(observations, step)
    return [
        _judged(name, bound, data) if name in RULES else _counted(name, bound, labelled)
        for name, bound in budgets
        if bound is not None
    ]


def _judged(name: str, bound: float, data: _Data) -> Verdict:
    label, unit, least, measure = RULES[name]
    sample = measure(data)
    found = sample.interval(TAIL) if min(sample.sizes) >= least else None
    if found is None:
        sentence = f"{label}: {sample.of} are too few, at least {least} of each are needed"
        return Verdict(name, bound, None, None, None, sample.sizes[0], "undecided", sentence)
    state: State = "broken" if found.low > bound else "within" if found.estimate <= bound else "undecided"
    estimate, low, high = (unit.number(number) for number in found)
    limit = unit.number(bound, digits=6)
    sentence = f"{label} is {estimate} ({low} to {high}) of {sample.of}, the budget is {limit}"
    return Verdict(name, bound, *found, sample.sizes[0], state, sentence)


def _counted(name: str, bound: float, labelled: Labelled | None) -> Verdict:
    """Word errors on the labelled recordings: a count over all of them, not a sample, so one error too many is too many."""
    if labelled is None:
        return Verdict(name, bound, None, None, None, 0, "undecided", "word errors: there are no labelled recordings")
    times = labelled.candidate / labelled.stable if labelled.stable else None
    broken = labelled.candidate > bound * labelled.stable
    sentence = (
        f"word errors are {labelled.candidate} of {labelled.words} words of {labelled.recordings} labelled recordings, "
        f"the stable model's {labelled.stable}, the budget is {bound:g} times those"
    )
    return Verdict(name, bound, times, times, times, labelled.words, "broken" if broken else "within", sentence)


def figures(observations: Observations) -> dict[str, Any]:
    """Numbers since the start, and figures of the latest requests and pairs, for people and metrics. None where there is no data."""
    data = _Data(observations)
    drifts = {name: _drift(RULES[f"max_{name}"].sample(data)) for name in ("word_drift", "pixel_drift", "picture_drift")}
    models: dict[str, Any] = {variant: _model(observations, data, variant) for variant in VARIANTS}
    return models | {"pairs": {"count": observations.pairs, **drifts}}


def _model(observations: Observations, data: _Data, variant: Variant) -> dict[str, Any]:
    numbers = {name: data.numbers(variant, name) for name in ("latency_s", "cpu_s", "empty", "repetitive", "logprob")}
    means = {name: fmean(found) if found else None for name, found in numbers.items()}
    latencies_s = numbers["latency_s"]
    return {
        "requests": observations.requests[variant],
        "errors": dict(observations.errors[variant]),
        "p50_s": intervals.quantile_of(latencies_s, 0.5) if latencies_s else None,
        "p95_s": intervals.quantile_of(latencies_s, 0.95) if latencies_s else None,
        **{name: means[name] for name in ("cpu_s", "empty", "repetitive", "logprob")},
    }


def _drift(sample: _Sample) -> dict[str, float] | None:
    """Value and 95% interval; of one pair there is none."""
    found = sample.interval(FIGURES_TAIL) if min(sample.sizes) > 1 else None
    return {"value": found.estimate, "low": found.low, "high": found.high} if found else None
