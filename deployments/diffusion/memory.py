"""The number of images that the free memory holds at once. The need of one is measured, on a small image, when the model starts."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deployments.diffusion.denoising import Denoising
from deployments.diffusion.engine import DiffusionEngine, decoded_together
from deployments.roles.text_to_image import GenerateRequest

SIDE_PX = 256
"""Largest side of the measured image."""
SHARE = 0.5
"""Of the free memory. The rest is for the operators' own buffers and for other processes."""
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryBudget:
    """Memory for one call of the UNet or of the decoder."""

    available_bytes: float
    step_bytes_per_pixel: float
    """Peak of one image's UNet call, by pixel of the image."""
    decode_bytes_per_pixel: float
    """Peak of its decoding."""

    @classmethod
    def measure(cls, engine: DiffusionEngine) -> "MemoryBudget":
        """Measure by one denoising step of a guided image and its decoding."""
        width, height = (min(side, SIDE_PX) for side in engine.size(GenerateRequest("")))
        states: list[Denoising] = []

        def step() -> None:
            states.append(engine.begin(GenerateRequest("", steps=2, guidance_scale=2.0, width=width, height=height)))
            engine.step(states)

        per_pixel = [peak_bytes(work) / (width * height) for work in (step, lambda: engine.decode(states))]
        return cls(SHARE * free_bytes(engine.device), *per_pixel)

    def needed_bytes(self, images: int, pixels: int) -> float:
        """Peak of so many images, of so many pixels each: of a step, or of the decoder, which takes a few at a time."""
        decoded = min(images, decoded_together(pixels))
        return pixels * max(images * self.step_bytes_per_pixel, decoded * self.decode_bytes_per_pixel)

    def fits(self, images: int, pixels: int) -> bool:
        """Whether so many images, of so many pixels each, can share a step. One alone is always tried."""
        return images <= 1 or self.needed_bytes(images, pixels) <= self.available_bytes


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that the tensors made by `work` hold at once, without the operators' own buffers."""
    with _LiveTensors() as live:
        work()
    return int(live.peak_bytes)


def free_bytes(device: str, cgroup: Path = CGROUP) -> int:
    """Free memory of the GPU; without one, the smaller of the machine's and of what the container's limit leaves."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no cgroup of version 2, or no limit in it: "max"
        return free
    return min(free, max(0, limit - int(used["anon"]) - int(used["shmem"])))


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The sum of the storages that operators have returned and that still exist."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._now_bytes = 0
        self._storages: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Sequence[Any], arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        returned = function(*arguments, **(named or {}))
        for tensor in tree_leaves(returned):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return returned

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return

        def freed(reference: Any) -> None:
            self._now_bytes -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, freed)
        self._now_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._now_bytes)
