"""Advice on what to ask for instead, each with its reason, by the rule of `kuberay.doctor.sizes`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kuberay.doctor import sizes
from sonograph.rightsize.amounts import counted, cpus, memory, plain
from sonograph.rightsize.used import LEAST_BUSY, Spread, Subject

WAITED = 0.8
"""Part of its CPUs below which a task, which computes all the time, had to wait."""

THREADS_BESIDE = 1
"""Thread that is seen at work beside those of a model, such as one that reads and decodes: no more CPUs are asked for it."""

type Severity = Literal["error", "note", "fine"]


@dataclass(frozen=True)
class Reason:
    """One sentence on an amount."""

    severity: Severity
    """`error` where less is asked for than is used; `note` where something else is worth a change."""
    about: Literal["cpus", "memory", "threads", "gpu"]
    sentence: str


@dataclass(frozen=True)
class Advice:
    subject: Subject
    cpus: float | None
    """CPUs to ask for; None where nothing is known of them."""
    memory_bytes: int | None
    reasons: tuple[Reason, ...]

    @property
    def asks_for_too_little(self) -> bool:
        return any(one.severity == "error" for one in self.reasons)


def advise(subject: Subject) -> Advice:
    """The advice on one subject; where it was idle there is none on CPUs."""
    used = None if subject.is_idle else subject.wanted_cpus
    to_ask = None if used is None else sizes.cpus_to_ask(max(used.p95, _least_cpus(subject)), _least_threads(subject))
    remembered = subject.memory
    bytes_to_ask = None if remembered is None else sizes.memory_to_ask(remembered.max)
    reasons = (*_on_cpus(subject, used, to_ask), *_on_memory(subject, remembered, bytes_to_ask), *_on_gpus(subject))
    return Advice(subject, to_ask, bytes_to_ask, reasons)


def _least_cpus(subject: Subject) -> float:
    """A task computes all the time: where it used less than a CPU, it had to wait."""
    return 1 if subject.kind == "task" else 0


def _least_threads(subject: Subject) -> float:
    """Threads below which the advice never goes."""
    threads, asked = subject.threads, subject.requested.cpus or 0
    if threads is None:
        return 0
    if _crowds(subject):
        return threads.p95
    return min(threads.p95, sizes.threads_of(asked)) if subject.threads_follow else 0


def _crowds(subject: Subject) -> bool:
    asked, threads = subject.requested.cpus, subject.threads
    return bool(asked and threads and sizes.has_too_many_threads(threads.p95 - THREADS_BESIDE, asked))


def _on_cpus(subject: Subject, used: Spread | None, to_ask: float | None) -> Iterator[Reason]:
    asked = subject.requested.cpus
    if used is None or to_ask is None:
        if subject.is_idle and subject.cpus:
            of = f"{len(subject.busy)} of {counted(len(subject.samples), 'sample')} were under load, and {LEAST_BUSY} are needed"
            yield Reason("note", "cpus", f"used {cpus(subject.cpus.max)} at most, so there is no advice on CPUs: {of}")
        return
    found = _used(subject)
    if _crowds(subject) and asked and subject.threads:
        threads = subject.threads.p95
        choice = f"ask for {to_ask:g}, or run {sizes.threads_of(asked)}"
        sentence = (
            f"asked for {cpus(asked)} and ran {threads:g} threads at the same time: {sizes.crowding(threads, asked)}; {choice}"
        )
        yield Reason("error", "threads", sentence)
    elif not asked:
        yield Reason("note", "cpus", f"asks for no CPU, so that nothing is kept for it, and {found}: ask for {to_ask:g}")
    elif sizes.has_too_few_cpus(used.p95, asked):
        yield Reason("error", "cpus", f"asks for {cpus(asked)} and {found}: ask for {to_ask:g}")
    elif sizes.is_waste(used.p95, asked) and (to_ask < asked or (subject.threads_follow and asked > 1)):
        yield Reason(
            "note",
            "cpus",
            f"asks for {cpus(asked)}, more than twice of what it needs: it {found}; {_less(subject, asked, to_ask)}",
        )
    else:
        yield Reason("fine", "cpus", f"asks for {cpus(asked)} and {found}{_all_of_it(subject, asked, used.p95)}")
    if subject.waits:
        yield Reason("note", "cpus", "waited for CPUs of its node, which others used: the node is full, whatever is asked for")
    if subject.kind == "task" and used.p95 < WAITED * min(asked or 1, subject.threads.p95 if subject.threads else 1):
        sentence = "had no CPU for much of its time, as on a node that is full, or waited for a disk: its figures are lower than its need"
        yield Reason("note", "cpus", sentence)


def _used(subject: Subject) -> str:
    waited = f", and waited for {plain(subject.waits)} more" if subject.waits else ""
    return f"used {cpus(subject.cpus.p95)}{waited} (p95)" if subject.cpus else ""


def _all_of_it(subject: Subject, asked: float, p95: float) -> str:
    """Effect of more and of fewer CPUs where all are used."""
    if p95 < asked * (1 - sizes.TOLERANCE) or subject.kind == "node":
        return ""
    more = ", since it would run more threads (num_cpus sets both)" if subject.threads_follow else ""
    return f", all of them: more would make it faster{more}, and fewer slower"


def _less(subject: Subject, asked: float, to_ask: float) -> str:
    if not subject.threads_follow or sizes.threads_of(to_ask) == sizes.threads_of(asked) == 1:
        return f"ask for {to_ask:g}"
    if to_ask < asked:
        return f"ask for {to_ask:g}, which sets its threads too"
    return "num_cpus sets its threads too, so with fewer it runs fewer of them, and may take longer: measure it"


def _on_memory(subject: Subject, used: Spread | None, to_ask: int | None) -> Iterator[Reason]:
    asked = subject.requested.memory_bytes
    if used is None or to_ask is None:
        return
    if not asked:
        if subject.kind != "node":
            yield Reason("note", "memory", f"asks for no memory, so a node takes any number of it: ask for {memory(to_ask)}")
    elif used.max > asked:
        yield Reason("error", "memory", f"asks for {memory(asked)} and used {memory(used.max)}: ask for {memory(to_ask)}")
    elif used.max * sizes.MEMORY_MARGIN > asked:
        yield Reason(
            "note",
            "memory",
            f"asks for {memory(asked)}, little above the {memory(used.max)} that it used: ask for {memory(to_ask)}",
        )
    elif sizes.is_waste(used.p95, asked) and to_ask < asked:
        yield Reason(
            "note",
            "memory",
            f"asks for {memory(asked)}, more than twice the {memory(used.p95)} that it used: ask for {memory(to_ask)}",
        )
    else:
        yield Reason("fine", "memory", f"asks for {memory(asked)} and used {memory(used.max)} at most: that fits")


def _on_gpus(subject: Subject) -> Iterator[Reason]:
    asked, used, held = subject.requested.gpus, subject.gpu_percent, subject.gpu_bytes
    if not asked and held and held.max > 0 and subject.kind != "node":
        yield Reason("error", "gpu", f"asks for no GPU and holds {memory(held.max)} of one: set num_gpus")
    elif asked and used and not subject.is_idle and sizes.is_waste(used.p95, asked * 100):
        yield Reason(
            "note",
            "gpu",
            f"asks for {asked:g} GPU and kept it busy for {used.p95:.0f}% of the time (p95): a smaller part, or a GPU shared",
        )
