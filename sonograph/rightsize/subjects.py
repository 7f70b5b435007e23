"""Subjects of a running service: its stages, and the nodes whose replicas cannot be told apart."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sonograph.rightsize.replicas import Replica
from sonograph.rightsize.used import Requested, Sample, Subject

NO_THREADS = "threads are not among Ray's metrics: they are seen on the replica's own machine alone"
WHOLE_GPUS = "the GPUs' figures are those of its node, whoever uses them"
WHOLE_POD = "figures are its pod's, with Ray's own processes in it"


def grouped(
    found: Sequence[Replica],
    seen: Mapping[str, Sequence[Sample]],
    peaks: Mapping[str, float],
    of_nodes: Mapping[str, Sequence[Sample]],
    wanted: Mapping[str, int],
) -> list[Subject]:
    """Subjects of the replicas. `seen`, `peaks`: by id, of those on this machine; `of_nodes`: by address, of the others' nodes."""
    there = defaultdict[str, list[Replica]](list)
    for one in found:
        if one.id not in seen:
            there[one.address].append(one)
    shared = {address: here for address, here in there.items() if len(here) > 1}
    parts = defaultdict[str, list[Subject]](list)
    for one in found:
        parts[one.stage].append(_of_replica(one, seen, peaks, of_nodes, one.address in shared))
    stages = [_of_stage(name, each, wanted.get(name, len(each))) for name, each in parts.items()]
    return stages + [_of_node(address, here, of_nodes[address]) for address, here in shared.items() if of_nodes.get(address)]


def _of_replica(
    one: Replica,
    seen: Mapping[str, Sequence[Sample]],
    peaks: Mapping[str, float],
    of_nodes: Mapping[str, Sequence[Sample]],
    is_shared: bool,
) -> Subject:
    of_node = of_nodes.get(one.address, ())
    samples, missing = seen.get(one.id, ()), list[str]()
    if one.id in seen and one.requested.gpus and of_node:
        samples = _with_gpus(samples, of_node)
        missing.append(WHOLE_GPUS)
    elif one.id not in seen and is_shared:
        missing.append(
            f"its node {one.address} holds other replicas too, and Ray's metrics do not have the processes of the models"
        )
    elif one.id not in seen:
        samples = of_node
        missing += (
            [NO_THREADS, WHOLE_POD] if samples else [f"its node {one.host or one.address or 'is unknown, and'} shows no metrics"]
        )
    return Subject(
        f"{one.stage} {one.id}",
        "replica",
        one.requested,
        samples,
        1,
        one.deployment,
        peaks.get(one.id),
        one.is_model,
        one.is_a_pod and WHOLE_POD in missing,
        missing=tuple(missing),
    )


def _with_gpus(samples: Sequence[Sample], of_node: Sequence[Sample]) -> list[Sample]:
    """The samples of a replica with the GPU's figures of its node, of which there are fewer."""
    pairs = ((one, of_node[index * len(of_node) // len(samples)]) for index, one in enumerate(samples))
    return [replace(one, gpu_percent=node.gpu_percent, gpu_bytes=node.gpu_bytes) for one, node in pairs]


def _of_stage(name: str, parts: Sequence[Subject], wanted: int) -> Subject:
    samples = [sample for part in parts for sample in part.samples]
    first = parts[0]
    peaks = [part.peak_bytes for part in parts if part.peak_bytes]
    missing = tuple(dict.fromkeys(sentence for part in parts for sentence in part.missing))
    return Subject(
        name,
        "deployment",
        first.requested,
        samples,
        wanted,
        first.deployment,
        max(peaks, default=None),
        first.threads_follow,
        any(part.of_pod for part in parts),
        missing=missing,
        parts=tuple(parts) if len(parts) > 1 else (),
    )


def _of_node(address: str, here: Sequence[Replica], samples: Sequence[Sample]) -> Subject:
    cpus, memory = sum(one.requested.cpus or 0 for one in here), [one.requested.memory_bytes for one in here]
    whole = sum(one or 0 for one in memory) if all(memory) else None
    names = ", ".join(sorted({one.stage for one in here}))
    missing = (NO_THREADS, f"what all of it asks for together: {names}, and Ray's own processes are in what it used")
    return Subject(
        f"node {address}", "node", Requested(cpus, whole, sum(one.requested.gpus for one in here)), samples, 1, missing=missing
    )
