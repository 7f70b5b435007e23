"""Pairs of a comparison: which are kept from before, which cannot run, and which are to be run."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sonograph.compare import plan
from sonograph.compare.cluster import NoCluster, RayCluster
from sonograph.compare.inputs import Input
from sonograph.compare.measured import Measured
from sonograph.compare.plan import Asked, Candidate, Checkpoint
from sonograph.compare.runner import Pair, failed
from sonograph.compare.tasks import Task
from sonograph.compare.works import Work


@dataclass(frozen=True)
class Models:
    """The candidates' checkpoints, and sentences on those that do not load, by label."""

    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairs:
    to_run: Sequence[Pair]
    known: Sequence[Measured]
    """Outcomes without a run: kept ones, and failures of what cannot run."""


def described(candidates: Sequence[Candidate], works: Mapping[str, Work], cluster: RayCluster) -> Models:
    """Find each model's checkpoint, once for all its engines, on the nodes that run it. Raises NoCluster."""
    handles: dict[str, Any] = {}
    for one in candidates:
        if one.model not in handles:
            handles[one.model] = cluster.describe(works[one.label], one)
    answers: dict[str, Checkpoint | str] = {}
    for model, handle in handles.items():
        try:
            answers[model] = cluster.result(handle)
        except NoCluster:
            raise
        except Exception as error:
            answers[model] = f"the model does not load: {error}"
    found = {one.label: answers[one.model] for one in candidates}
    return Models(
        {label: one for label, one in found.items() if isinstance(one, Checkpoint)},
        {label: one for label, one in found.items() if isinstance(one, str)},
    )


def pairs(
    candidates: Sequence[Candidate],
    inputs: Sequence[Input],
    models: Models,
    works: Mapping[str, Work],
    kept: Mapping[str, Measured],
    asked: Asked,
    language: str,
    timeout_s: float,
) -> Pairs:
    """All inputs of the first candidate, then of the next: a worker keeps the model that it has loaded. `kept`: outcomes by key."""
    to_run, known = [], []
    for candidate in candidates:
        for one in inputs:
            if problem := one.problem or models.broken.get(candidate.label, ""):
                name = hashlib.sha256(f"{candidate.label}\0{one.name}".encode("utf-8", "replace")).hexdigest()
                known.append(failed(_blank(name, candidate, one, asked), problem))
                continue
            checkpoint = models.checkpoints[candidate.label]
            key = plan.key(one, candidate, checkpoint, asked, language)
            before = kept.get(key)
            if before is not None and before.error is None:
                known.append(replace(before, input=one.name, candidate=candidate.label))
            else:
                engine = hashlib.sha256(
                    f"{candidate.label} {dict(candidate.settings)} {checkpoint.identity}".encode()
                ).hexdigest()
                task = Task(_blank(key, candidate, one, asked), works[candidate.label], engine[:16], timeout_s)
                to_run.append(Pair(candidate, one, task))
    return Pairs(to_run, known)


def _blank(key: str, candidate: Candidate, one: Input, asked: Asked) -> Measured:
    """An outcome without its figures."""
    return Measured(
        key=key,
        role=candidate.role,
        candidate=candidate.label,
        model=candidate.model,
        engine=candidate.engine,
        settings=candidate.settings,
        input=one.name,
        length_s=None,
        asked_cpus=asked.cpus,
        asked_bytes=asked.memory_bytes,
        node="",
        pid=0,
        cores=(),
        started_s=time.time(),
        ended_s=time.time(),
        load_s=0.0,
        wall_s=0.0,
        cpu_s=0.0,
        threads=0,
        peak_bytes=0,
        text=None,
        mean_log_probability=None,
    )
