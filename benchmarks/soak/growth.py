"""Growth of each figure between an early window of the run and its last fifth; its table and chart."""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import chart

EARLY, LATE = (0.15, 0.35), (0.8, 1.0)
"""The windows, as parts of the run."""
MOST = 0.01
"""Of the early median, in 1,000 requests."""
LEAST = {"pss_mib": 0.2, "rss_mib": 0.2, "mib": 0.1}
"""Growth in 1,000 requests that counts as none, in MiB; of other figures 0.2, which is two files in ten thousand requests."""
FIGURES = ("pss_mib", "rss_mib", "files", "threads", "entries", "mib")
HEADS = ("PSS, MiB", "RSS, MiB", "open files", "threads", "entries", "MiB")
RAYS = ("gcs_server", "monitor", "dashboard", "log_monitor", "raylet", "DashboardAgent", "RuntimeEnvAgent", "ServeController")
"""Kinds of Ray's own processes, of which some grow with dead actors; `Ray's logs` and `ray-dashboard` too."""
FEWEST = 5
"""Samples of a window from which a verdict can come."""


@dataclass(frozen=True)
class Growth:
    early: float
    late: float
    """Medians of the windows."""
    per_1000: float
    low: float
    high: float
    """Growth in 1,000 requests, and its 95% bootstrap interval."""
    verdict: str
    """`flat`, `grows`, or `not decided`."""


def growth(result: Mapping[str, Any]) -> dict[str, dict[str, Growth]]:
    """The growth of each figure of each kind that is in most samples."""
    samples: Sequence[Mapping[str, Mapping[str, float]]] = result["samples"]
    kinds = [kind for kind in samples[-1] if sum(kind in one for one in samples) > len(samples) / 2]
    at = [{"at": {"requests": requests}} for requests in result["at"]]
    early, late = (statistics.median(_window(at, part, "at", "requests")) for part in (EARLY, LATE))
    between = (late - early) / 1000
    return {
        kind: {
            figure: _growth(figure, _window(samples, EARLY, kind, figure), _window(samples, LATE, kind, figure), between)
            for figure in samples[-1][kind]
        }
        for kind in kinds
    }


def found(result: Mapping[str, Any], verdict: str, rays: bool) -> list[str]:
    """The figures with this verdict, of Ray's own processes and files or of the others."""
    return sorted(
        f"{kind} {figure}"
        for kind, of_kind in growth(result).items()
        for figure, one in of_kind.items()
        if one.verdict == verdict and (kind in RAYS or kind.lower().startswith("ray")) == rays
    )


def _window(samples: Sequence[Mapping[str, Any]], part: tuple[float, float], kind: str, figure: str) -> list[float]:
    chosen = samples[int(part[0] * len(samples)) : max(1, int(part[1] * len(samples)))] or samples
    return [one[kind][figure] for one in chosen if kind in one] or [0.0]


def _growth(figure: str, early: Sequence[float], late: Sequence[float], thousands: float) -> Growth:
    chance = random.Random(0)

    def resampled(values: Sequence[float]) -> float:
        return statistics.median(chance.choices(values, k=len(values)))

    first, last = statistics.median(early), statistics.median(late)
    differences = sorted((resampled(late) - resampled(early)) / thousands for _ in range(1000))
    low, high = differences[25], differences[974]
    most = max(MOST * first, LEAST.get(figure, 0.2))
    verdict = "flat" if high <= most else "grows" if low > most else "not decided"
    if min(len(early), len(late)) < FEWEST:
        verdict = "not decided"
    return Growth(first, last, (last - first) / thousands, low, high, verdict)


def table(result: Mapping[str, Any]) -> list[str]:
    """The lines of a Markdown table: medians of both windows, and the growth in 1,000 requests with its interval where it is not flat."""
    lines = [f"| | {' | '.join(HEADS)} |", "|---|" + "---:|" * len(HEADS)]
    for kind, of_kind in growth(result).items():
        lines.append(f"| {kind} | {' | '.join(_cell(of_kind.get(figure)) for figure in FIGURES)} |")
    return lines


def _cell(one: Growth | None) -> str:
    if one is None:
        return ""
    medians = f"{one.early:.0f} to {one.late:.0f}"
    return medians if one.verdict == "flat" else f"{medians}; {one.per_1000:+.1f} ({one.low:+.1f} to {one.high:+.1f})"


def plot(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the service's own processes that live through the run."""
    shown = ("ingress", "ProxyActor", "ServeController", "decode template")
    samples = result["samples"]
    kinds = [kind for kind in shown if any(kind in one for one in samples)]

    def line(kind: str, figure: str) -> list[tuple[float, float]]:
        return [(at, one[kind][figure]) for at, one in zip(result["at"], samples, strict=True) if kind in one]

    panels = [
        chart.Panel(title, "requests", [line(kind, figure) for kind in kinds])
        for title, figure in (("PSS, MiB", "pss_mib"), ("open files", "files"))
    ]
    chart.draw(path, kinds, panels)
