"""The service's objectives, the recording rules that measure them, and the alerts on how fast their budgets are spent.

Burn rates as in chapter 5 of Google's Site Reliability Workbook: a budget is for 30 days, and an alert needs the rate over a long and a
short window, so that it fires while the fault lasts and ends soon after it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from graphs.core.metrics import ERRORS, INGRESS, REQUEST_DURATION, REQUESTS, SECONDS
from kuberay.manifest.objects import Object

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


def objectives(deadline_s: float) -> tuple[Objective, ...]:
    answer_s = bound(deadline_s / 4)
    return (
        Objective(
            "SonographErrors", 0.995, "application:sonograph_failures:ratio_rate", _failures, "fail by the service's fault"
        ),
        Objective(
            "SonographLatency",
            0.95,
            "application:sonograph_slow:ratio_rate",
            lambda window: _slow(answer_s, window),
            f"take more than {answer_s:g} s",
        ),
    )


def bound(most_s: float) -> float:
    """The largest bound of the histograms' buckets up to `most_s`: only there is a share exact."""
    return max((bucket for bucket in SECONDS if bucket <= most_s), default=SECONDS[0])


def recording(objective: Objective) -> list[Object]:
    return [{"record": objective.recorded + window, "expr": objective.bad(window)} for window in WINDOWS]


def requests() -> list[Object]:
    """The recording rules of the rate of requests."""
    return [{"record": REQUESTS_RATE + window, "expr": _requests(window)} for window in WINDOWS]


def burning(objective: Objective, burn: Burn) -> str:
    """The condition of the alert, in PromQL."""
    threshold = f"{objective.threshold(burn):g}"
    return f"{objective.recorded}{burn.long} > {threshold} and {objective.recorded}{burn.short} > {threshold}"


def _requests(window: str) -> str:
    return f'sum by (application) (rate({REQUESTS.exported}{{stage="{INGRESS}"}}[{window}]))'


def _failures(window: str) -> str:
    codes = "|".join(FAILURES)
    failed = f'sum by (application) (rate({ERRORS.exported}{{code=~"{codes}",{OF_STABLE}}}[{window}]))'
    recorded = REQUESTS_RATE + window
    return f"({failed} or {recorded} * 0) / {recorded}"  # 0 also before the first report of the errors


def _slow(answer_s: float, window: str) -> str:
    bucket, _, count = REQUEST_DURATION.series
    # Prometheus 2 keeps the text of `le` as it is exported, which is that of an integer or of a float.
    in_time = f'sum by (application) (rate({bucket}{{le=~"{answer_s:g}([.]0)?"}}[{window}]))'
    return f"1 - {in_time} / sum by (application) (rate({count}[{window}]))"
