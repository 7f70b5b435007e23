"""Summary of a comparison: a row for each candidate, the Pareto front of error and cost, and the choice with its reason."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sonograph.compare.measured import Measured
from sonograph.compare.scores import Scores, rate


@dataclass(frozen=True)
class Row:
    """One candidate over all inputs. Figures are of those that it did; None where there is none."""

    candidate: str
    model: str
    engine: str
    count: int
    """Inputs that it did."""
    failed: int
    seconds: float | None
    """Time of the computations, in sum."""
    median_s: float | None
    """Median time of one computation."""
    cpu_s: float | None
    """CPU time of the computations, in sum."""
    length_s: float | None
    """Sound in the recordings, in sum."""
    real_time_factor: float | None
    """Time of the computations for each second of sound."""
    peak_bytes: int | None
    """Highest resident memory of any task."""
    threads: int | None
    """Most threads that ran at once in any task."""
    mean_log_probability: float | None
    """Mean over the recordings, by their lengths."""
    word_error_rate: float | None
    """Word errors for each word of all references."""
    agreement: float | None
    """Part of the largest model's words that it has too: 1 less the word error rate against them."""
    on_front: bool = False
    """Whether no other candidate has both less error and less cost."""
    chosen: bool = False

    @property
    def error(self) -> float | None:
        """The word error rate, or where there is no reference the disagreement with the largest model; 0 to 1, or above."""
        if self.word_error_rate is not None or self.agreement is None:
            return self.word_error_rate
        return 1 - self.agreement

    @property
    def cost(self) -> float | None:
        """CPU seconds for each second of sound, or seconds for each picture."""
        if not self.count or self.cpu_s is None or self.seconds is None:
            return None
        return self.cpu_s / self.length_s if self.length_s else self.seconds / self.count


@dataclass(frozen=True)
class Choice:
    """The candidate to use, and one sentence on why; without a candidate on why there is none."""

    candidate: str | None
    reason: str


def rows(measured: Sequence[Measured], candidates: Sequence[str], scores: Scores) -> list[Row]:
    """A row for each candidate, by error and then cost, with the Pareto front marked."""
    found = [_row(label, [one for one in measured if one.candidate == label], scores) for label in candidates]
    marked = [replace(one, on_front=_on_front(one, found)) for one in found]
    return sorted(marked, key=lambda one: (_last(one.error), _last(one.cost)))


def chosen(rows: Sequence[Row], within_points: float, largest: str | None) -> tuple[list[Row], Choice]:
    """The rows with the chosen one marked: the cheapest on the front whose error is at most so many points above the best.

    `largest`: the candidate whose texts the others are compared with where nothing has a reference.
    """
    front = [one for one in rows if one.on_front]
    if not front:
        return list(rows), Choice(None, _no_choice(rows))
    best = min(front, key=lambda one: _last(one.error))
    near = [one for one in front if _last(one.error) <= _last(best.error) + within_points / 100]
    winner = min(near, key=lambda one: _last(one.cost))
    marked = [replace(one, chosen=one.candidate == winner.candidate) for one in rows]
    return marked, Choice(winner.candidate, _reason(winner, best, rows, within_points, largest))


def _row(label: str, found: Sequence[Measured], scores: Scores) -> Row:
    done = [one for one in found if one.error is None]
    lengths_s = [one.length_s for one in done if one.length_s is not None]
    seconds, length_s = sum(one.wall_s for one in done), sum(lengths_s)
    likely = [(one.mean_log_probability, one.length_s or 1.0) for one in done if one.mean_log_probability is not None]
    weight = sum(length for _, length in likely)
    disagreement = rate([one for (candidate, _), one in scores.largest.items() if candidate == label])
    return Row(
        candidate=label,
        model=found[0].model if found else "",
        engine=found[0].engine if found else "",
        count=len(done),
        failed=len(found) - len(done),
        seconds=seconds if done else None,
        median_s=statistics.median(one.wall_s for one in done) if done else None,
        cpu_s=sum(one.cpu_s for one in done) if done else None,
        length_s=length_s if lengths_s else None,
        real_time_factor=seconds / length_s if length_s else None,
        peak_bytes=max((one.peak_bytes for one in done), default=None),
        threads=max((one.threads for one in done), default=None),
        mean_log_probability=sum(value * length for value, length in likely) / weight if weight else None,
        word_error_rate=rate([one for (candidate, _), one in scores.reference.items() if candidate == label]),
        agreement=None if disagreement is None else 1 - disagreement,
    )


def _on_front(one: Row, others: Sequence[Row]) -> bool:
    """Whether nothing beats the row: no other has less of error or cost, and no more of the other."""
    if one.error is None or one.cost is None:
        return False
    mine = (one.error, one.cost)
    theirs = [(other.error, other.cost) for other in others if other.error is not None and other.cost is not None]
    return not any(error <= mine[0] and cost <= mine[1] and (error, cost) != mine for error, cost in theirs)


def _no_choice(rows: Sequence[Row]) -> str:
    if not any(one.count for one in rows):
        return "No candidate is chosen, since none has a result."
    if any(one.length_s for one in rows):
        return "No candidate is chosen, since nothing says which text is right: give known texts by --reference."
    cheapest = min((one for one in rows if one.count), key=lambda one: _last(one.cost))
    return (
        "No candidate is chosen: pictures have no score, since the classifier that could give one does not come with Sonograph. "
        f"The cheapest is {cheapest.candidate}; look at the pictures."
    )


def _reason(winner: Row, best: Row, rows: Sequence[Row], within_points: float, largest: str | None) -> str:
    cost, points = f"{winner.cost:.3g} CPU s for each second of sound", f"{within_points:g} point{'s' * (within_points != 1)}"
    known = winner.word_error_rate is not None
    error = f"{_last(winner.error):.1%} of the words {'wrong' if known else f'other than those of {largest}'}"
    if sum(one.error is not None for one in rows) == 1:
        figures = f"{error}, {cost}" if known else cost
        return f"{winner.candidate} is chosen, the only candidate with a result: {figures}."
    if winner.candidate != best.candidate:
        return (
            f"{winner.candidate} is chosen, the cheapest on the front within {points} of the best: {error} "
            f"({best.candidate}: {_last(best.error):.1%}), {cost} instead of {best.cost:.3g}."
        )
    if not any(_last(one.cost) < _last(winner.cost) for one in rows):
        return f"{winner.candidate} is chosen: nothing has less error or is cheaper ({error}, {cost})."
    if not known:
        return f"{winner.candidate} is chosen, the largest model: no cheaper one has its words to within {points} ({cost})."
    return f"{winner.candidate} is chosen: it has the least error, {error}, and no cheaper one is within {points} of it ({cost})."


def _last(value: float | None) -> float:
    """A value by which rows without one come last."""
    return float("inf") if value is None else value
