"""Effect of the advice on packing: the number that fits a node as requested and as advised, and what waits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kuberay.doctor import sizes
from sonograph.rightsize.advice import Advice
from sonograph.rightsize.amounts import cpus, plain
from sonograph.rightsize.packing import Fit, Need, NodeSize, fit, waiting

ANY = "any number"


@dataclass(frozen=True)
class Row:
    node: str
    name: str
    requested: Fit | None
    """None where it asks for nothing, so that any number fits."""
    advised: Fit | None
    crowded: bool
    """Whether those that fit as requested use more CPUs than the node has."""

    @property
    def as_requested(self) -> str:
        return _shown(self.requested)

    @property
    def as_advised(self) -> str:
        return _shown(self.advised)


@dataclass(frozen=True)
class Fits:
    rows: tuple[Row, ...]
    sentences: tuple[str, ...]
    waiting_as_requested: dict[str, int]
    waiting_as_advised: dict[str, int]


def packed(advices: Sequence[Advice], places: Sequence[NodeSize]) -> Fits:
    """Nodes of one size are one row, and those without CPUs for replicas, such as a head's, none.

    Of tasks each candidate is packed alone, and deployments together.
    """
    kinds = [replace(place, name="node", count=count) for place, count in _kinds(places).items() if place.cpus]
    own = [one for one in advices if one.subject.kind in ("deployment", "task")]
    pairs = [(one, _asked(one), _advised(one)) for one in own]
    rows, sentences = list[Row](), list[str]()
    for place in kinds:
        for advice, asked, advised in pairs:
            as_requested = fit(place, asked)
            crowded = _crowded(advice, as_requested, place)
            rows.append(Row(place.described(), advice.subject.name, as_requested, fit(place, advised), bool(crowded)))
            sentences += [crowded] if crowded else []
    waits: list[dict[str, int]] = []
    for needs in ([one for _, one, _ in pairs], [one for _, _, one in pairs]):
        together = all(one.subject.kind == "deployment" for one in own)
        groups = [needs] if together else [[one] for one in needs]
        waits.append({name: count for group in groups for name, count in waiting(kinds, group).items()})
    return Fits(tuple(rows), (*dict.fromkeys(sentences), *_waiting(own, kinds, *waits)), *waits)


def _kinds(places: Sequence[NodeSize]) -> dict[NodeSize, int]:
    found = Counter[NodeSize]()
    for place in places:
        found[replace(place, name="", count=1)] += place.count
    return dict(found)


def _asked(advice: Advice) -> Need:
    asked = advice.subject.requested
    return Need(advice.subject.name, asked.cpus, asked.memory_bytes, asked.gpus, advice.subject.count)


def _advised(advice: Advice) -> Need:
    """Amounts that it would ask for; where there is no advice, those that it asks for."""
    asked = _asked(advice)
    return replace(
        asked,
        cpus=asked.cpus if advice.cpus is None else advice.cpus,
        memory_bytes=asked.memory_bytes if advice.memory_bytes is None else float(advice.memory_bytes),
    )


def _crowded(advice: Advice, as_requested: Fit | None, place: NodeSize) -> str:
    """A sentence where those that fit a node as requested use more CPUs than it has."""
    subject = advice.subject
    used, threads = subject.wanted_cpus, subject.threads
    if as_requested is None or used is None or subject.is_idle or not as_requested.number:
        return ""
    each = max(used.p95, threads.p95 if threads and advice.asks_for_too_little else 0)
    if as_requested.number * each <= place.cpus * (1 + sizes.TOLERANCE):
        return ""
    return (
        f"a node of {cpus(place.cpus)} takes {as_requested.number} of {subject.name} as requested, which keep "
        f"{plain(as_requested.number * each)} CPUs busy: {plain(as_requested.number * each / place.cpus)} times what it has"
    )


def _waiting(
    own: Sequence[Advice], places: Sequence[NodeSize], as_requested: dict[str, int], as_advised: dict[str, int]
) -> list[str]:
    """A sentence on what finds no place, as requested and as advised."""
    number = sum(place.count for place in places)
    if not number:
        return []
    nodes = f"{number} node" + ("" if number == 1 else "s")
    if own and own[0].subject.kind == "task":
        numbers = [
            (one.subject, one.subject.count - as_requested[one.subject.name], one.subject.count - as_advised[one.subject.name])
            for one in own
        ]
        listed = "; ".join(f"{subject.name}: {now} and {then} of {subject.count}" for subject, now, then in numbers)
        return [f"tasks at the same time on {nodes}, as requested and as advised, while the others wait: {listed}"]
    return [f"on {nodes}, {how}, {_listed(found)}" for how, found in (("as requested", as_requested), ("as advised", as_advised))]


def _listed(found: dict[str, int]) -> str:
    waits = [f"{count} of {name}" for name, count in found.items() if count]
    return f"these wait: {', '.join(waits)}" if waits else "every replica has its place"


def _shown(found: Fit | None) -> str:
    return ANY if found is None else f"{found.number} (by {found.bound})"
