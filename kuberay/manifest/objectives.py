"""The service's objectives, the recording rules that measure them, and the alerts on how fast their budgets are spent.

Burn rates as in chapter 5 of Google's Site Reliability Workbook: a budget is for 30 days, and an alert needs the rate over a long and a
short window, so that it fires while the fault lasts and ends soon after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from graphs.core.metrics import ERRORS, INGRESS, REQUEST_DURATION, REQUESTS, SECONDS
from kuberay.manifest.objects import Object
from kuberay.manifest.selectors import BY, of_installation
from kuberay.profiles import Profile

REQUESTS_RATE = "application:sonograph_requests:rate"
"""Recorded requests per second, before the window's name."""
FAILURES = ("internal", "model_unavailable", "overloaded")
"""Codes of requests that the service fails. A missed deadline is none: a client's own `timeout_ms` can cause it."""
OF_STABLE = 'stage!~".+-candidate"'
"""Matcher without the failures of a rollout's candidate, after which the stable model answers."""


@dataclass(frozen=True)
class Burn:
    """A rate of spending at which an alert fires, in both windows."""

    factor: float
    """Multiple of the rate that spends the budget in just 30 days."""
    long: str
    short: str
    hold: str
    """Time for which the alert's condition has to hold."""
    severity: str


FAST = Burn(14.4, "1h", "5m", "2m", "critical")
"""2% of the budget of 30 days in an hour."""
SLOW = Burn(6, "6h", "30m", "15m", "warning")
"""5% of the budget of 30 days in six hours."""
WINDOWS = tuple(
    sorted({window for burn in (FAST, SLOW) for window in (burn.long, burn.short)}, key=("5m", "30m", "1h", "6h").index)
)


@dataclass(frozen=True)
class Objective:
    name: str
    """First part of its alerts' names."""
    target: float
    """Share of good requests over 30 days."""
    recorded: str
    """Name of the recorded share of bad requests, before the window's name."""
    bad: Callable[[str], str]
    """The share of bad requests by application, in PromQL, over a window."""
    meaning: str
    """Bad requests in words, for the alerts."""

    def threshold(self, burn: Burn) -> float:
        """Share of bad requests at which the alert fires."""
        return round(burn.factor * (1 - self.target), 6)


def objectives(profile: Profile) -> tuple[Objective, ...]:
    answer_s = bound(profile.times.deadline_s / 4)
    return (
        Objective(
            "SonographErrors",
            0.995,
            "application:sonograph_failures:ratio_rate",
            partial(_failures, profile),
            "fail by the service's fault",
        ),
        Objective(
            "SonographLatency",
            0.95,
            "application:sonograph_slow:ratio_rate",
            partial(_slow, profile, answer_s),
            f"take more than {answer_s:g} s",
        ),
    )


def bound(most_s: float) -> float:
    """The largest bound of the histograms' buckets up to `most_s`: only there is a share exact."""
    return max((bucket for bucket in SECONDS if bucket <= most_s), default=SECONDS[0])


def recording(objective: Objective) -> list[Object]:
    return [{"record": objective.recorded + window, "expr": objective.bad(window)} for window in WINDOWS]


def requests(profile: Profile) -> list[Object]:
    """The recording rules of the rate of requests."""
    return [{"record": REQUESTS_RATE + window, "expr": _requests(profile, window)} for window in WINDOWS]


def requests_rate(profile: Profile, window: str) -> str:
    """The recorded requests per second."""
    return of_installation(profile, REQUESTS_RATE + window)


def burning(profile: Profile, objective: Objective, burn: Burn) -> str:
    """The condition of the alert, in PromQL."""
    long, short = (of_installation(profile, objective.recorded + window) for window in (burn.long, burn.short))
    threshold = f"{objective.threshold(burn):g}"
    return f"{long} > {threshold} and {short} > {threshold}"


def _requests(profile: Profile, window: str) -> str:
    of_ingress = of_installation(profile, REQUESTS.exported, f'stage="{INGRESS}"')
    return f"sum by ({BY}) (rate({of_ingress}[{window}]))"


def _failures(profile: Profile, window: str) -> str:
    errors = of_installation(profile, ERRORS.exported, f'code=~"{"|".join(FAILURES)}"', OF_STABLE)
    recorded = requests_rate(profile, window)
    # 0 also before the first report of the errors.
    return f"(sum by ({BY}) (rate({errors}[{window}])) or {recorded} * 0) / {recorded}"


def _slow(profile: Profile, answer_s: float, window: str) -> str:
    bucket, _, count = REQUEST_DURATION.series
    # Prometheus 2 keeps the text of `le` as it is exported, which is that of an integer or of a float.
    in_time = of_installation(profile, bucket, f'le=~"{answer_s:g}([.]0)?"')
    answered = of_installation(profile, count)
    return f"1 - sum by ({BY}) (rate({in_time}[{window}])) / sum by ({BY}) (rate({answered}[{window}]))"
