"""What both training runs share: worker processes, checkpoints that survive a kill, sheets, the learning rate; runs in training only."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image, ImageDraw
from torch.multiprocessing.spawn import spawn


def in_parallel(work: Callable[..., None], processes: int, *args: object) -> None:
    """Runs `work(rank, *args)` in so many processes of one thread each.

    They wait for each other once a step; the threads of one process would at every operation, and crawl beside other work.
    """
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_start, (work, processes, f"file://{meeting}/meeting", args), nprocs=processes)  # type: ignore[no-untyped-call]


def _start(rank: int, work: Callable[..., None], processes: int, meeting: str, args: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes, timeout=timedelta(days=1))
    work(rank, *args)
    dist.destroy_process_group()


def average_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Over the processes."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all: a kill while writing leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    return torch.load(path, weights_only=True) if path.is_file() else None


def cosine(step: int, steps: int, warm_up: int) -> float:
    """Factor of the learning rate: linear up over `warm_up` steps, then half a cosine down to 1%."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def sheet(rgb: torch.Tensor, columns: int, labels: Sequence[str] = ()) -> Image.Image:
    """`rgb`: [n, 3, h, w] in [-1, 1]. Each picture has its label under it."""
    _, _, height, width = rgb.shape
    strip = 12 if labels else 0
    whole = Image.new("RGB", (columns * width, math.ceil(len(rgb) / columns) * (height + strip)), "white")
    for i, pixels in enumerate(((rgb.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
        left, top = i % columns * width, i // columns * (height + strip)
        whole.paste(Image.fromarray(pixels), (left, top))
        if labels:
            ImageDraw.Draw(whole).text((left + 2, top + height), labels[i][:12], fill="black", font_size=9)
    return whole
