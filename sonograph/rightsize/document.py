"""The answer for programs: one JSON document."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from kuberay.doctor import sizes
from sonograph.rightsize.advice import Advice
from sonograph.rightsize.fits import Fits
from sonograph.rightsize.sources import Found
from sonograph.rightsize.used import Spread, Subject

RULE = {
    "cpus": "p95, rounded up",
    "fine_step_cpus": sizes.FINE_STEP,
    "coarse_step_cpus": sizes.COARSE_STEP,
    "tolerance": sizes.TOLERANCE,
    "memory_margin": sizes.MEMORY_MARGIN,
    "memory_step_bytes": sizes.MEMORY_STEP_BYTES,
    "waste": sizes.WASTE,
}


def document(found: Found, advices: Sequence[Advice], packed: Fits, notes: Iterable[str]) -> dict[str, Any]:
    """Amounts are CPUs and bytes; what is unknown is null."""
    return {
        "source": found.source,
        "seconds": found.seconds,
        "requests": found.requests,
        "rule": RULE,
        "subjects": [_advice(one) for one in advices],
        "packing": {
            "nodes": [asdict(one) for one in found.places],
            "fits": [asdict(one) for one in packed.rows],
            "waiting_as_requested": packed.waiting_as_requested,
            "waiting_as_advised": packed.waiting_as_advised,
            "sentences": list(packed.sentences),
        },
        "notes": list(notes),
    }


def _advice(advice: Advice) -> dict[str, Any]:
    reasons = [asdict(one) for one in advice.reasons]
    return {**_subject(advice.subject), "advised": {"cpus": advice.cpus, "memory_bytes": advice.memory_bytes}, "reasons": reasons}


def _subject(subject: Subject) -> dict[str, Any]:
    used = ("cpus", "waited_cpus", "threads", "memory", "gpu_percent", "gpu_bytes")
    return {
        "name": subject.name,
        "kind": subject.kind,
        "deployment": subject.deployment,
        "count": subject.count,
        "requested": asdict(subject.requested),
        "used": {name: _spread(getattr(subject, name)) for name in used},
        "samples": len(subject.samples),
        "samples_under_load": len(subject.busy),
        "idle": subject.is_idle,
        "missing": list(subject.missing),
        "replicas": [_subject(one) for one in subject.parts],
    }


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)
