"""Helpers of every training: worker processes, checkpoints that survive a kill, contact sheets, the learning rate."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image, ImageDraw, ImageFont
from torch.multiprocessing.spawn import spawn


def in_parallel(work: Callable[..., None], processes: int, *args: object) -> None:
    """Run `work(rank, *args)` in so many processes of one thread each.

    Processes wait for each other once a step; the threads of one process would wait at every operation, which is slow on a busy machine.
    """
    with tempfile.TemporaryDirectory() as rendezvous:
        spawn(_start, (work, processes, f"file://{rendezvous}/rendezvous", args), nprocs=processes)  # type: ignore[no-untyped-call]


def _start(rank: int, work: Callable[..., None], processes: int, rendezvous: str, args: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=processes, timeout=timedelta(days=1))
    work(rank, *args)
    dist.destroy_process_group()


def average_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Replace each gradient by its average over the processes."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint atomically: a kill meanwhile keeps the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    return torch.load(path, weights_only=True) if path.is_file() else None


def cosine(step: int, steps: int, warm_up: int) -> float:
    """The factor of the learning rate: linear up over `warm_up` steps, then half a cosine down to 1%."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def sheet(rgb: torch.Tensor, columns: int, labels: Sequence[str] = (), scale: float = 1, font_px: int = 12) -> Image.Image:
    """A contact sheet of `rgb`: [n, 3, h, w] in [-1, 1], each image enlarged by `scale`, with its label below it."""
    width, height = round(rgb.shape[3] * scale), round(rgb.shape[2] * scale)
    font = ImageFont.load_default(font_px)
    texts = [_wrapped(label, width - 4, font) for label in labels]
    strip = max((text.count("\n") + 1 for text in texts), default=0) * (font_px + 4) + (4 if texts else 0)
    whole = Image.new("RGB", (columns * width, math.ceil(len(rgb) / columns) * (height + strip)), "white")
    draw = ImageDraw.Draw(whole)
    for i, pixels in enumerate(((rgb.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
        left, top = i % columns * width, i // columns * (height + strip)
        whole.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), (left, top))
        if labels:
            middle = (left + width / 2, top + height)
            draw.multiline_text(middle, texts[i], fill="black", font=font, anchor="ma", align="center", spacing=2)
    return whole


def _wrapped(text: str, width_px: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text with line breaks between words; a line is wider than `width_px` only where one word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
