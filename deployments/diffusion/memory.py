"""How many pictures the free memory holds at once: what one takes is measured, on a small one, when the model starts."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.types import Prompt

SIDE_PX = 256
"""Largest side of the picture that is measured."""
SHARE = 0.5
"""Of the free memory: the rest is for what operators need inside, and for others."""
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Budget:
    bytes: float
    per_pixel: float
    """Bytes that one picture's UNet call or decoding holds at its peak, by pixel."""

    @classmethod
    def of(cls, engine: DiffusionEngine) -> "Budget":
        width, height = (min(side, SIDE_PX) for side in engine.size(Prompt("")))
        used = peak_bytes(lambda: _one_step(engine, width, height))
        return cls(SHARE * free_bytes(engine.device), used / (width * height))

    def holds(self, pictures: int, pixels: int) -> bool:
        """Whether so many of so many pixels each can share a call. One alone is always tried."""
        return pictures <= 1 or pictures * pixels * self.per_pixel <= self.bytes


def _one_step(engine: DiffusionEngine, width: int, height: int) -> None:
    guided = engine.begin(Prompt("", width=width, height=height))
    engine.step([guided])
    engine.decode([guided])


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that tensors made by `work` hold at once. What an operator needs inside is not seen."""
    with _Living() as living:
        work()
    return int(living.peak)


def free_bytes(device: str, cgroup: Path = CGROUP) -> int:
    """Of the GPU, or of the machine and of what this container may have."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no cgroup of version 2, or no limit in it: "max"
        return free
    return min(free, max(0, limit - int(used["anon"]) - int(used["shmem"])))


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operators return, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Sequence[Any], arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        returned = function(*arguments, **(named or {}))
        for tensor in tree_leaves(returned):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return returned

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def end(gone: Any) -> None:
            self._now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, end)
        self._now += size
        self.peak = max(self.peak, self._now)
