"""Packing: how many replicas or tasks fit a node by what they ask for, and what waits."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sonograph.rightsize.amounts import GIB, MOST_CPUS, cpus, memory, plain, quantity

MOST_NODES = 10_000
NODE = "cpus=8,memory=32Gi"


@dataclass(frozen=True)
class NodeSize:
    """A node, or several of one size."""

    name: str
    cpus: float
    memory_bytes: float | None
    """None where it is unknown: then it bounds nothing."""
    gpus: float = 0
    count: int = 1

    def described(self) -> str:
        parts = [cpus(self.cpus)]
        parts += [memory(self.memory_bytes)] if self.memory_bytes else []
        parts += [f"{plain(self.gpus)} GPU{'s' if self.gpus > 1 else ''}"] if self.gpus else []
        several = f", {self.count} of them" if self.count > 1 else ""
        return f"{', '.join(parts)}{several}"


@dataclass(frozen=True)
class Need:
    """Amount that one replica or task asks for; None or 0 where it asks for nothing of it."""

    name: str
    cpus: float | None
    memory_bytes: float | None
    gpus: float = 0
    count: int = 1
    """Number that is wanted."""


@dataclass(frozen=True)
class Fit:
    number: int
    """Number that fits one node."""
    bound: str
    """The resource that ends first: `CPUs`, `memory`, `GPUs`."""


def fit(place: NodeSize, need: Need) -> Fit | None:
    """The number that fits an empty node; None where it asks for nothing."""
    amounts = {
        "CPUs": (place.cpus, need.cpus),
        "memory": (place.memory_bytes, need.memory_bytes),
        "GPUs": (place.gpus, need.gpus),
    }
    found = [Fit(_times(has, wants), name) for name, (has, wants) in amounts.items() if wants and has is not None]
    return min(found, key=lambda one: one.number, default=None)


def waiting(places: Iterable[NodeSize], needs: Sequence[Need]) -> dict[str, int]:
    """The number of each that finds no node, the largest being placed first; those that fit count as placed together."""
    free = [[place.cpus, place.memory_bytes, place.gpus] for place in places for _ in range(min(place.count, MOST_NODES))][
        :MOST_NODES
    ]
    left = {}
    for need in sorted(needs, key=lambda one: (one.cpus or 0, one.memory_bytes or 0), reverse=True):
        wants = (need.cpus or 0, need.memory_bytes or 0, need.gpus)
        count = need.count
        for node in free:
            fits = [_times(has, want) for has, want in zip(node, wants, strict=True) if want and has is not None]
            placed = min([count, *fits])
            for index, (has, want) in enumerate(zip(node, wants, strict=True)):
                node[index] = None if has is None else has - placed * want
            count -= placed
        left[need.name] = count
    return left


def _times(has: float, wants: float) -> int:
    return max(0, math.floor(round(has / wants, 6)))


def parsed(text: str) -> NodeSize:
    """A node of `cpus=8,memory=32Gi,gpus=1,count=3`. Raises ValueError with a sentence."""
    stated: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (one.strip() for one in part.partition("="))
        number = quantity(value) if re.fullmatch(r"[0-9.]+[A-Za-z]*", value) else None
        if name not in ("cpus", "memory", "gpus", "count"):
            raise ValueError(f"{part} is no part of a node: write {NODE}, and gpus=1 or count=3 where that applies")
        if number is None or not number or name in stated:
            raise ValueError(f"{part} is no amount above 0, or stands twice: write {NODE}")
        stated[name] = number
    if "cpus" not in stated or stated["cpus"] > MOST_CPUS:
        raise ValueError(f"{text} has no CPUs that a node could have: write {NODE}")
    if stated.get("memory", GIB) < GIB / 16:
        raise ValueError(f"{text} has less memory than a node could have: write memory=32Gi")
    count = stated.get("count", 1)
    if count != int(count) or count > MOST_NODES:
        raise ValueError(f"{text}: count is a whole number of nodes, at most {MOST_NODES}")
    return NodeSize("node", stated["cpus"], stated.get("memory"), stated.get("gpus", 0), int(count))
