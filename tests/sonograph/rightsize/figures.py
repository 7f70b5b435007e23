"""Subjects with handed-in figures."""

from collections.abc import Sequence
from typing import Any

from sonograph.rightsize.replicas import Replica
from sonograph.rightsize.used import Requested, Sample, Subject

MIB = 2**20


def samples(cpus: float = 0.9, memory_mib: float = 500, threads: float | None = 1, count: int = 20, **more: Any) -> list[Sample]:
    looks = () if threads is None else (threads,)
    return [Sample(cpus, memory_mib * MIB, looks, **more) for _ in range(count)]


def subject(used: Sequence[Sample] | None = None, asked_cpus: float | None = 1, **fields: Any) -> Subject:
    memory_bytes, gpus = fields.pop("asked_bytes", None), fields.pop("gpus", 0)
    found = {"name": "whisper", "kind": "deployment", "deployment": "whisper", "threads_follow": True, **fields}
    return Subject(requested=Requested(asked_cpus, memory_bytes, gpus), samples=samples() if used is None else used, **found)


def running(stage: str, id: str, address: str, **fields: Any) -> Replica:
    found = {"requested": Requested(1, None, 0), "is_model": True, "application": "sonograph", "is_a_pod": False, **fields}
    return Replica(stage, stage, id, address, address, **found)
