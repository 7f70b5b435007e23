"""What both training runs share: checkpoints that survive a kill, contact sheets, a learning rate with warm-up; runs in training only."""
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image


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


def sheet(rgb: torch.Tensor, columns: int) -> Image.Image:
    """`rgb`: [n, 3, h, w] in [-1, 1]."""
    count, _, height, width = rgb.shape
    rows = math.ceil(count / columns)
    cells = torch.ones(rows * columns, 3, height, width)
    cells[:count] = rgb.clamp(-1, 1)
    whole = cells.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray(((whole + 1) * 127.5).round().to(torch.uint8).numpy(), "RGB")
